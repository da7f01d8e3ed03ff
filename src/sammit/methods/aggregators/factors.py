"""Pairs of low-rank factors: how they are named, and the weighted mean of what they stand for.

A pair is known by its names alone: one dotted component is "lora", and the names end in "_down.weight" for A
(R x in) and "_up.weight" for B (out x R). A tensor "..._rest" beside them (out x in) is what a pair of rank R cannot
hold. Pairs of adapters of other names, such as "own_lora", stay at a site and are none of the server's business.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from sammit.methods.state import has_component
from sammit.vocabulary import State

COMPONENT, DOWN, UP, REST = "lora", "_down.weight", "_up.weight", "_rest"


def is_down(name: str) -> bool:
    """Whether a tensor is a factor A."""
    return has_component(name, COMPONENT) and name.endswith(DOWN)


def is_up(name: str) -> bool:
    """Whether a tensor is a factor B."""
    return has_component(name, COMPONENT) and name.endswith(UP)


def is_factor(name: str) -> bool:
    """Whether a tensor is a factor A or B."""
    return is_down(name) or is_up(name)


def is_rest(name: str) -> bool:
    """Whether a tensor is what a pair cannot hold."""
    return has_component(name, COMPONENT) and name.endswith(REST)


def down_of(up: str) -> str:
    """The name of A beside the name of B."""
    return up.removesuffix(UP) + DOWN


def rest_of(up: str) -> str:
    """The name of what the pair cannot hold, beside the name of B."""
    return up.removesuffix(UP) + REST


def pairs(names: Iterable[str]) -> list[str]:
    """The name of B of every pair of which both names are there, sorted: no sum depends on a state's order."""
    known = set(names)
    return sorted(name for name in known if is_up(name) and down_of(name) in known)


def product(state: State, up: str) -> Tensor:
    """(out, in) float64 B A of one pair."""
    return state[up].double() @ state[down_of(up)].double()


class Products:
    """sum_k n_k B_k A_k / n of every pair, in float64, kept as two factors.

    The factors are those of the sites side by side, (out x M) and (M x in), until M passes the width `in`; from then on
    the dense sum stands for them. Memory is at most that of twice the dense weights, whatever the number of sites.
    """

    def __init__(self) -> None:
        self._left: State = {}
        self._right: State = {}
        self._weight = 0.0

    def add(self, state: State, weight: float) -> None:
        """Add one site's pairs."""
        for up in pairs(state):
            left, right = weight * state[up].double(), state[down_of(up)].double()
            if up in self._left:
                left, right = torch.cat([self._left[up], left], 1), torch.cat([self._right[up], right])
            if left.shape[1] > right.shape[1]:
                left, right = left @ right, torch.eye(right.shape[1], dtype=torch.float64)
            self._left[up], self._right[up] = left, right
        self._weight += weight

    def names(self) -> list[str]:
        """The names of B."""
        return sorted(self._left)

    def factors(self, up: str) -> tuple[Tensor, Tensor]:
        """(out, M) and (M, in), whose product is the mean of one pair's products."""
        return self._left[up] / self._weight, self._right[up]

    def mean(self, up: str) -> Tensor:
        """(out, in) the mean of one pair's products."""
        left, right = self.factors(up)
        return left @ right

    def error(self, made: Callable[[str], Tensor]) -> float | None:
        """||sum_k p_k B_k A_k - made||_F / ||sum_k p_k B_k A_k||_F over all pairs together; None without pairs.

        Args:
            made: from the name of B to the (out, in) product that stands for the mean from now on.
        """
        apart = whole = torch.zeros((), dtype=torch.float64)
        for up in self.names():
            exact = self.mean(up)
            apart, whole = apart + (exact - made(up)).square().sum(), whole + exact.square().sum()
        return float((apart / whole.clamp_min(1e-30)).sqrt()) if self._left else None
