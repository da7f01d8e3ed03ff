"""Pairs of low-rank factors: how they are named, and the weighted mean of what they stand for.

A pair is known by its names alone: one dotted component is "lora", and the names end in "_down.weight" for A
(R x in) and "_up.weight" for B (out x R). A tensor "..._rest" beside them (out x in) is what a pair of rank R cannot
hold. Pairs of adapters of other names, such as "own_lora", stay at a site and are none of the server's business.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor

from sammit.methods.state import has_component

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


def product(state: Mapping[str, Tensor], up: str) -> Tensor:
    """(out, in) float64 B A of one pair."""
    return state[up].double() @ state[down_of(up)].double()


class Products:
    """sum_k n_k B_k A_k / n of every pair: of each the sites' factors, or the dense sum where that is smaller.

    Memory grows with the sites by their factors, as they were sent, until these outweigh the dense sums: at most that
    of the dense weights in float64, whatever the number of sites.
    """

    def __init__(self) -> None:
        self._sums: dict[str, _Sum] = {}
        self._weight = 0.0

    def add(self, state: Mapping[str, Tensor], weight: float) -> None:
        """Add one site's pairs."""
        for up in pairs(state):
            self._sums.setdefault(up, _Sum()).add(state[up], state[down_of(up)], weight)
        self._weight += weight

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return sum(total.nbytes for total in self._sums.values())

    def names(self) -> list[str]:
        """The names of B."""
        return sorted(self._sums)

    def factors(self, up: str) -> tuple[Tensor, Tensor]:
        """(out, M) and (M, in) float64, whose product is the mean of one pair's products."""
        left, right = self._sums[up].factors()
        return left / self._weight, right

    def mean(self, up: str) -> Tensor:
        """(out, in) float64, the mean of one pair's products."""
        return self._sums[up].product() / self._weight

    def error(self, made: Callable[[str], Tensor]) -> float | None:
        """||sum_k p_k B_k A_k - made||_F / ||sum_k p_k B_k A_k||_F over all pairs together; None without pairs.

        Args:
            made: from the name of B to the (out, in) product that stands for the mean from now on.
        """
        apart = whole = torch.zeros((), dtype=torch.float64)
        for up in self.names():
            exact = self.mean(up)
            apart, whole = apart + (exact - made(up)).square().sum(), whole + exact.square().sum()
        return float((apart / whole.clamp_min(1e-30)).sqrt()) if self._sums else None


class _Sum:
    """sum_k n_k B_k A_k of one pair."""

    def __init__(self) -> None:
        self._sides: list[tuple[Tensor, Tensor, float]] = []
        self._dense: Tensor | None = None

    def add(self, up: Tensor, down: Tensor, weight: float) -> None:
        """Add n_k B_k A_k of (out, R) and (R, in)."""
        if self._dense is not None:
            self._dense += (weight * up.double()) @ down.double()
            return
        self._sides.append((up.clone(), down.clone(), weight))
        if self.nbytes >= 8 * len(up) * down.shape[1]:
            self._dense = self.product()
            self._sides.clear()

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        dense = 0 if self._dense is None else self._dense.nbytes
        return dense + sum(up.nbytes + down.nbytes for up, down, _ in self._sides)

    def factors(self) -> tuple[Tensor, Tensor]:
        """(out, M) and (M, in) float64: the sites' side by side, or the dense sum and one."""
        if self._dense is not None:
            return self._dense, torch.eye(self._dense.shape[1], dtype=torch.float64)
        left = torch.cat([weight * up.double() for up, _, weight in self._sides], 1)
        return left, torch.cat([down.double() for _, down, _ in self._sides])

    def product(self) -> Tensor:
        """(out, in) float64."""
        if self._dense is not None:
            return self._dense
        left, right = self.factors()
        return left @ right
