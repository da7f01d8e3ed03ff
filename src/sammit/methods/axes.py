"""Whether a method and an aggregator go together: two axes, and the pairs that make no sense."""

from __future__ import annotations

from sammit.errors import UserError
from sammit.methods.aggregators.base import Aggregator
from sammit.methods.base import Method


def combine(method: Method, aggregator: Aggregator, names: tuple[str, str]) -> Method:
    """The method with the rule beside it.

    Args:
        method, aggregator: with their options.
        names: of both, for messages.

    Raises:
        UserError: the two do not go together, and why.
    """
    if names[1] != "naive" and (reason := _clash(method, aggregator)):
        raise UserError(f"method.aggregator: {names[0]} {reason}, so '{names[1]}' cannot be put beside it; use 'naive'")
    method.aggregator = aggregator
    return method


def _clash(method: Method, aggregator: Aggregator) -> str:
    """What a method does that the aggregator leaves no room for; empty where they go together."""
    kind, rule = type(method), type(aggregator)
    merges = rule.merged is not Aggregator.merged or rule.merge is not Aggregator.merge
    if kind.aggregate is not Method.aggregate and merges:
        return "has a rule of its own for what is shared"
    if not aggregator.weighs and (kind.weight is not Method.weight or method.all_at_once):
        return "weighs the sites by a rule of its own"
    if aggregator.least > 1 and method.pooled:
        return "trains one pooled site, which is the only one to answer"
    if aggregator.personalises and method.pooled:
        return "trains one pooled site, which keeps nothing from the others"
    if aggregator.personalises and kind.personal is not Method.personal:
        return "puts each site's own model together by a rule of its own"
    if aggregator.refactors and (kept := _kept_by_name(method)):
        return f"keeps '{kept}' of every shared tensor, and the factors are other ones after each round"
    return ""


def _kept_by_name(method: Method) -> str:
    """What is kept of every shared tensor from round to round, but for the optimiser's moments; empty if nothing."""
    declared = (*method.site_state, *method.server_state, *method.extras_up, *method.extras_down)
    families = (d.name for d in declared if d.shape is None and d.name != "optimiser.")
    return next(families, "")
