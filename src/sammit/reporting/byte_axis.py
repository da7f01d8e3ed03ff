"""A logarithmic axis of bytes that leaves out wide stretches without any value.

A method that shares nothing sends a few hundred bytes where others send megabytes: on a plain logarithmic axis the
others would be crowded into a corner.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from sammit.reporting import wording

WIDEST = 1.0  # decades without a value that are still shown
LEFT = 0.4  # decades that stand for a wider stretch
EDGE = 0.2  # decades beyond the outermost values
MOST = 6  # ticks


@dataclass(frozen=True)
class ByteAxis:
    """Where bytes stand; positions are in decades from the fewest bytes.

    Attributes:
        logs: base-10 logarithms of the values, ascending and distinct.
        places: their positions.
    """

    logs: tuple[float, ...]
    places: tuple[float, ...]

    @classmethod
    def of(cls, values: Sequence[float]) -> ByteAxis:
        """The axis of at least one number of bytes; 0 stands with 1, as a logarithm needs."""
        logs = sorted({_log(value) for value in values})
        places = [0.0]
        for lower, upper in pairwise(logs):
            places.append(places[-1] + (upper - lower if upper - lower <= WIDEST else LEFT))
        return cls(tuple(logs), tuple(places))

    def place(self, value: float) -> float:
        """The position of one of the values."""
        return self.places[self.logs.index(_log(value))]

    @property
    def ends(self) -> tuple[float, float]:
        """Where the axis begins and ends."""
        return -EDGE, self.places[-1] + EDGE

    @property
    def breaks(self) -> list[float]:
        """The middles of the stretches that are left out."""
        return [(before + after) / 2 for before, after in self._cuts()]

    def _cuts(self) -> list[tuple[float, float]]:
        """Positions around each stretch that is left out."""
        gaps = zip(self.logs, self.logs[1:], self.places, self.places[1:], strict=False)
        return [(before, after) for lower, upper, before, after in gaps if upper - lower > WIDEST]

    def ticks(self) -> list[tuple[float, str]]:
        """(position, bytes in words) of round numbers, of the values themselves where there are not two of those."""
        for digits in ((1, 2, 5), (1, 3), (1,)):
            found = self._round(digits)
            if len(found) <= MOST:
                break
        if len(found) < 2:
            found = [(place, 10**log) for log, place in zip(self.logs, self.places, strict=True)]
        apart = (self.ends[1] - self.ends[0]) / MOST
        kept: list[tuple[float, str]] = []
        for place, value in found:
            if not kept or place - kept[-1][0] >= 0.6 * apart:
                kept.append((place, wording.size(value)))
        return kept

    def _round(self, digits: Sequence[int]) -> list[tuple[float, float]]:
        """(position, bytes) of the numbers that begin with one of `digits` and lie where the axis is whole."""
        powers = range(math.floor(self.logs[0] - EDGE), math.ceil(self.logs[-1] + EDGE) + 1)
        values = [digit * 10.0**power for power in powers for digit in digits]
        placed = [(self._near(math.log10(value)), value) for value in values]
        return [(place, value) for place, value in placed if place is not None]

    def _near(self, log: float) -> float | None:
        """The position of any number that lies between two values that are close, or just beyond one."""
        for known, place in zip(self.logs, self.places, strict=True):
            if abs(log - known) <= EDGE:
                return place + log - known
        for place, lower, upper in zip(self.places, self.logs, self.logs[1:], strict=False):
            if lower < log < upper and upper - lower <= WIDEST:
                return place + log - lower
        return None


def _log(value: float) -> float:
    return math.log10(max(1.0, value))
