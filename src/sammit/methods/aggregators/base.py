"""What an aggregator of low-rank factors may decide; the default averages each factor by itself.

A pair of factors B (out x R), A (R x in) of site k stands for the weight update s B_k A_k. The mean of the factors is
not the factors of the mean:

    sum_k p_k B_k A_k  !=  (sum_k p_k B_k) (sum_k p_k A_k)

Every rule here says what it makes of the pairs; all other tensors are averaged by weight, whatever the rule.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sammit.config import Experiment
from sammit.methods.state import WeightedMean
from sammit.vocabulary import State


@dataclass(frozen=True)
class Options:
    """`[method.NAME]`: the plain mean has no options."""


class Aggregator:
    """The mean of each factor by itself (FedIT); what it is wrong by is measured where pairs travel."""

    def __init__(self, options: Any = None) -> None:
        self.options = options or Options()

    # Before the run

    def plan(self, experiment: Experiment) -> Experiment:
        """The experiment as the rule needs it; as it is by default."""
        return experiment

    # What travels

    def trains(self, name: str) -> bool:
        """Whether a live tensor is trained, as far as the rule has a say."""
        return True

    def shares(self, name: str) -> bool:
        """Whether a trained tensor travels, as far as the rule has a say."""
        return True

    def holds(self, name: str) -> bool:
        """Whether a tensor that no site trains is the server's to send."""
        return False

    # A site's own shapes

    def order(self, tensors: State, site: str) -> State:
        """What of the shared tensors one site is sent; all by default."""
        return tensors

    def fill(self, tensors: State) -> State:
        """At the site: the tensors of an order in the model's shapes."""
        return tensors

    def cut(self, tensors: State, site: str) -> State:
        """At the site: what leaves of the model's shared tensors; also the shapes that the server expects."""
        return tensors

    # At the server

    def merge(self, shared: State, updates: Iterable[tuple[State, float]]) -> tuple[State, Mapping[str, float]]:
        """The next shared tensors from (tensors, weight) of each site, and numbers for the round's log.

        Args:
            shared: the server's tensors before the round.
            updates: in site order; consumed as they arrive.
        """
        mean, products = WeightedMean(), Products()
        for tensors, weight in updates:
            full = self.fill(tensors)
            mean.add(full, weight)
            products.add(full, weight)
        return self.merged(shared, mean.mean(), products)

    def merged(self, shared: State, mean: State, products: Products) -> tuple[State, Mapping[str, float]]:
        """From the mean of every tensor and of every product to the next shared tensors; the means by default."""
        error = products.error(mean)
        return mean, {} if error is None else {"lora_error": error}


class Products:
    """sum_k n_k B_k A_k / n of every pair, in float64: memory is that of the dense weights, whatever the sites."""

    def __init__(self) -> None:
        self._sums: State = {}
        self._weight = 0.0

    def add(self, state: State, weight: float) -> None:
        """Add one site's pairs."""
        for down, up in factor_pairs(state):
            product = weight * (state[up].double() @ state[down].double())
            self._sums[up] = self._sums[up] + product if up in self._sums else product
        self._weight += weight

    def mean(self) -> dict[str, Tensor]:
        """Name of B -> (out, in) float64 mean of the products, in order of name whatever the order in a state."""
        return {up: self._sums[up] / self._weight for up in sorted(self._sums)}

    def error(self, state: State) -> float | None:
        """||sum_k p_k B_k A_k - B A||_F / ||sum_k p_k B_k A_k||_F over all pairs of `state`; None without pairs."""
        exact = self.mean()
        if not exact:
            return None
        apart = [(exact[up] - state[up].double() @ state[down].double()).square().sum() for down, up in pairs_of(exact)]
        whole = torch.stack([product.square().sum() for product in exact.values()]).sum()
        return float((torch.stack(apart).sum() / whole.clamp_min(1e-30)).sqrt())


def is_down(name: str) -> bool:
    """Whether a tensor is a factor A of a shared pair: ADAPTERS.lora.q_down.weight and the like."""
    return "lora" in name.split(".") and name.endswith("_down.weight")


def is_up(name: str) -> bool:
    """Whether a tensor is a factor B of a shared pair."""
    return "lora" in name.split(".") and name.endswith("_up.weight")


def down_of(up: str) -> str:
    """The name of A beside the name of B."""
    return up.removesuffix("_up.weight") + "_down.weight"


def factor_pairs(names: Iterable[str]) -> list[tuple[str, str]]:
    """(A, B) of every pair of which both names are there, in the order of B."""
    names = list(names)
    known = set(names)
    return [(down_of(up), up) for up in names if is_up(up) and down_of(up) in known]


def pairs_of(products: Iterable[str]) -> list[tuple[str, str]]:
    """(A, B) of the pairs whose products are known by the name of B."""
    return [(down_of(up), up) for up in products]
