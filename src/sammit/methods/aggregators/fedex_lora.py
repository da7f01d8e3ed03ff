"""FedEx-LoRA: the mean of each factor, and what that misses added to the frozen weight; exact.

    B = sum_k p_k B_k,   A = sum_k p_k A_k,     E <- E + sum_k p_k B_k A_k - B A,     site k uses  W_0 + s (E + B A)

Singhal et al., 2410.09432. E (out x in) is zero at first; the server holds it, sends it down with each order and never
gets it back, since no site trains it. The paper sends each round's addition in factors, of rank up to K R; added up
over rounds these are of full rank soon, so that a site which missed a round, or a run that is resumed, needs the sum
anyway. It is held and sent dense.

`lora_error` is what is left after rounding to float32; `lora_residual` is what the naive mean would have missed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import ClassVar

from torch import Tensor

from sammit.config import Experiment
from sammit.errors import UserError
from sammit.methods.aggregators import base
from sammit.methods.aggregators.factors import COMPONENT, Products, is_rest, is_up, product, rest_of
from sammit.methods.state import select
from sammit.vocabulary import AnyState, State

PAPER = "Singhal et al. 2024 (2410.09432)"
TRAVELS = "both factors of every pair; down also what the pairs cannot hold, a whole matrix each"
STAYS = "nothing"
EXACT = "yes"

ADAPTERS = (COMPONENT, f"decoder_{COMPONENT}")

Options = base.Options


class Aggregator(base.Aggregator):
    """Holds E at the server."""

    decides: ClassVar[tuple[str, ...]] = tuple(f"model.options.{name}.residual" for name in ADAPTERS)

    def plan(self, experiment: Experiment) -> Experiment:
        """The model gets a place for E beside every pair."""
        model = experiment.model
        asked = {name: {**model.options.get(name, {}), "residual": True} for name in ADAPTERS if name in model.adapter}
        return replace(experiment, model=replace(model, options={**model.options, **asked}))

    def check(self, shared: AnyState, sites: Sequence[str]) -> None:
        """Also that every pair has a place for what it cannot hold."""
        super().check(shared, sites)
        for up in select(shared, is_up):
            if rest_of(up) not in shared:
                raise UserError(f"method.aggregator: fedex_lora has no place beside '{up}'; use 'flexlora' or 'naive'")

    def holds(self, name: str) -> bool:
        """E of every pair."""
        return is_rest(name)

    def merged(self, shared: AnyState, mean: State, products: Products) -> tuple[State, Mapping[str, float]]:
        """The means, and E with what they miss."""
        before = select(shared, self.holds)
        now = dict(before)
        for up in products.names():
            missed = products.mean(up) - product(mean, up)
            now[rest_of(up)] = (before[rest_of(up)].double() + missed).to(before[rest_of(up)].dtype)

        def made(up: str) -> Tensor:
            return product(mean, up) + now[rest_of(up)].double() - before[rest_of(up)].double()

        errors = {"lora_error": products.error(made), "lora_residual": products.error(partial(product, mean))}
        return mean | now, {name: error for name, error in errors.items() if error is not None}
