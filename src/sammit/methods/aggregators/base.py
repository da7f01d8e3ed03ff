"""How updates become one state: what an aggregator may decide; the default is the mean, of each factor by itself.

Some rules are there for pairs of low-rank factors, others for updates that may be wrong (`coordinates`,
`clipped_mean`). A pair B (out x R), A (R x in) of site k stands for the weight update s B_k A_k. The mean of the
factors is not the factors of the mean:

    sum_k p_k B_k A_k  !=  (sum_k p_k B_k) (sum_k p_k A_k)

A rule for pairs says what it makes of them; all other tensors it averages by weight. The scale s = alpha / R is the
model's, the same at all sites, so that it goes through every sum.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from torch import Tensor

from sammit.config import Experiment
from sammit.errors import UserError
from sammit.methods.aggregators.factors import Products, is_factor, product
from sammit.methods.state import WeightedMean, select
from sammit.vocabulary import AnyState, State


@dataclass(frozen=True)
class Options:
    """`[method.NAME]`: most rules have no options."""


class Aggregator:
    """The mean of each factor by itself (FedIT); what it is wrong by is measured where pairs travel."""

    personalises: ClassVar[bool] = False  # a factor stays at each site, which so has a model of its own
    refactors: ClassVar[bool] = False  # the factors of the next round are not those that were trained
    all_at_once: ClassVar[bool] = False  # `merge` looks at every update before it begins: they come on disk
    weighs: ClassVar[bool] = True  # a site counts by its weight
    least: int = 1  # updates without which the rule cannot do what it is for
    decides: ClassVar[tuple[str, ...]] = ()  # keys of the experiment that `plan` sets, whatever the recipe says

    def __init__(self, options: Any = None) -> None:
        self.options = options or Options()

    # Before the run

    def plan(self, experiment: Experiment) -> Experiment:
        """The experiment as the rule needs it; as it is by default."""
        return experiment

    def check(self, shared: AnyState, sites: Sequence[str]) -> None:
        """Look at what will travel, before anything is written.

        Args:
            shared: the server's first tensors, in the model's shapes.
            sites: the names of all sites, those that take no part too.

        Raises:
            UserError: the rule has nothing to merge, or cannot merge it.
        """
        if not any(is_factor(name) for name in shared):
            raise UserError(
                "method.aggregator: no low-rank factors travel here, as model.adapter has no 'lora' "
                "or the method keeps it at the sites; use 'naive'"
            )

    def notes(self) -> tuple[str, ...]:
        """Sentences that a reader of the run's scores must see; none by default."""
        return ()

    # What travels

    def trains(self, name: str) -> bool:
        """Whether a live tensor is trained, as far as the rule has a say."""
        return True

    def shares(self, name: str) -> bool:
        """Whether a trained tensor travels, as far as the rule has a say."""
        return True

    def holds(self, name: str) -> bool:
        """Whether a tensor that no site trains is the server's to change and to send."""
        return False

    def without_held(self, tensors: AnyState) -> State:
        """What sites train of the server's tensors: all that a method at a site need know of."""
        return select(tensors, lambda name: not self.holds(name))

    # A site's own shapes

    def cut(self, tensors: AnyState, site: str) -> AnyState:
        """What of the shared tensors one site is sent, and sends back; all by default."""
        return tensors

    def fill(self, tensors: Mapping[str, Tensor], like: AnyState) -> Mapping[str, Tensor]:
        """What `cut` left, in the model's shapes again; `like` has a tensor of the right shape for every name."""
        return tensors

    # At the server

    def merge(
        self, shared: AnyState, updates: Iterable[tuple[Mapping[str, Tensor], float]]
    ) -> tuple[AnyState, Mapping[str, float]]:
        """The next shared tensors from (tensors, weight) of each site, and numbers for the round's log.

        Args:
            shared: the server's tensors before the round; they are kept where no update comes.
            updates: in site order; consumed as they arrive.
        """
        mean = WeightedMean()
        with Products() as products:
            for tensors, weight in updates:
                full = self.fill(tensors, shared)
                mean.add(full, weight)
                products.add(full, weight)
            return self.merged(shared, mean.mean(), products) if mean.weight else (shared, {})

    def merged(self, shared: AnyState, mean: State, products: Products) -> tuple[State, Mapping[str, float]]:
        """From the mean of every tensor and of every product to the next shared tensors; the means by default."""
        return mean, measured("lora_error", products.error(partial(product, mean)))


def check_something_travels(shared: AnyState) -> None:
    """Raise UserError where sites share no tensor."""
    if not shared:
        raise UserError("method.aggregator: nothing travels here that could be merged; use 'naive'")


def measured(name: str, error: float | None) -> dict[str, float]:
    """An error of a merge for the round's log, where there was a pair to merge."""
    return {} if error is None else {name: error}
