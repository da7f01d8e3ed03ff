"""Pairs of low-rank factors: how they are named, and the weighted mean of what they stand for.

A pair is known by its names alone: one dotted component is "lora", and the names end in "_down.weight" for A
(R x in) and "_up.weight" for B (out x R). A tensor "..._rest" beside them (out x in) is what a pair of rank R cannot
hold. Pairs of adapters of other names, such as "own_lora", stay at a site and are none of the server's business.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from io import SEEK_END
from tempfile import SpooledTemporaryFile, gettempdir
from typing import IO

import torch
from torch import Tensor

from sammit.errors import UserError
from sammit.methods.state import has_component

COMPONENT, DOWN, UP, REST = "lora", "_down.weight", "_up.weight", "_rest"

HELD = 1 << 22
"""Bytes of factors that wait in memory."""

TOGETHER = 64
"""Sites whose factors are multiplied at once; one by one each would go over the whole sum."""


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


class Products(AbstractContextManager["Products"]):
    """sum_k n_k B_k A_k / n of every pair, which is summed when it is asked for.

    Until then the sites' factors wait, beyond `HELD` bytes of them in a file of the system's folder for temporary
    ones: memory has room for one pair's sum, whatever the number of sites.
    """

    def __init__(self) -> None:
        self._file = SpooledTemporaryFile(HELD)  # noqa: SIM115  (this object closes it)
        self._sums: dict[str, _Sum] = {}
        self._weight = 0.0

    def __enter__(self) -> Products:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, state: Mapping[str, Tensor], weight: float) -> None:
        """Add one site's pairs.

        Raises:
            UserError: the folder for temporary files takes no more.
        """
        for up in pairs(state):
            if up not in self._sums:
                self._sums[up] = _Sum(self._file, len(state[up]), state[down_of(up)].shape[1])
            self._sums[up].add(state[up], state[down_of(up)], weight)
        self._weight += weight

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
    """sum_k n_k B_k A_k of one pair, over factors in a file.

    Attributes:
        out, width: sides of the sum.
    """

    def __init__(self, file: IO[bytes], out: int, width: int) -> None:
        self._file, self.out, self.width = file, out, width
        self._starts, self._ranks = array("q"), array("q")  # a few bytes a site, where a list would take hundreds

    def add(self, up: Tensor, down: Tensor, weight: float) -> None:
        """Add n_k B_k A_k of (out, R) and (R, in)."""
        numbers = torch.cat([(weight * up.double()).flatten(), down.double().flatten()])
        try:
            self._file.seek(0, SEEK_END)
            self._starts.append(self._file.tell())
            self._ranks.append(len(down))
            self._file.write(numbers.numpy().tobytes())
            self._file.flush()  # a full disk is told here, not where the numbers are read again
        except OSError as error:
            reason = f"{gettempdir()}: {error.strerror} while keeping low-rank factors"
            raise UserError(f"{reason}; make room, or set TMPDIR to a folder that has some") from None

    def factors(self) -> tuple[Tensor, Tensor]:
        """(out, M) and (M, in) float64: the sites' side by side, or where these are wider the sum and one."""
        if sum(self._ranks) > min(self.out, self.width):
            return self.product(), torch.eye(self.width, dtype=torch.float64)
        return self._side_by_side(0, len(self._ranks))

    def product(self) -> Tensor:
        """(out, in) float64."""
        total = torch.zeros(self.out, self.width, dtype=torch.float64)
        for first in range(0, len(self._ranks), TOGETHER):
            total.addmm_(*self._side_by_side(first, first + TOGETHER))
        return total

    def _side_by_side(self, first: int, end: int) -> tuple[Tensor, Tensor]:
        """(out, M) times their weights and (M, in), float64, of some of the sites."""
        lefts, rights = [], []
        for start, rank in zip(self._starts[first:end], self._ranks[first:end], strict=True):
            self._file.seek(start)
            numbers = self._file.read(8 * rank * (self.out + self.width))
            both = torch.frombuffer(bytearray(numbers), dtype=torch.float64)
            lefts.append(both[: self.out * rank].view(self.out, rank))
            rights.append(both[self.out * rank :].view(rank, self.width))
        return torch.cat(lefts, 1), torch.cat(rights)
