"""What finished cells tell of those to come: how long they take, and how much memory."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol


class Alike(Protocol):
    """A cell, or what is listed of one."""

    @property
    def method(self) -> str:
        """Its key in the study."""
        ...

    @property
    def row(self) -> tuple[str, str]:
        """Dataset and method."""
        ...


class Known:
    """Seconds and peaks of finished cells, by dataset and method."""

    def __init__(self) -> None:
        self._seconds: dict[tuple[str, str], list[float]] = {}
        self._peaks: dict[tuple[str, str], int] = {}

    def add(self, cell: Alike, seconds: float, peak: int | None) -> None:
        """A finished cell: its duration, and its largest resident memory in bytes if it was measured."""
        self._seconds.setdefault(cell.row, []).append(seconds)
        if peak is not None:
            self._peaks[cell.row] = max(peak, self._peaks.get(cell.row, 0))

    def peak(self, cell: Alike) -> int | None:
        """The largest peak of a finished cell of the same dataset and method; None before the first."""
        return self._peaks.get(cell.row)

    def seconds(self, cell: Alike) -> float | None:
        """The mean over finished cells of the same dataset and method, else of the method, else over all."""
        for alike in (cell.row, (None, cell.method), (None, None)):
            found = [
                one
                for row, seconds in self._seconds.items()
                if all(wanted in (None, own) for wanted, own in zip(alike, row, strict=True))
                for one in seconds
            ]
            if found:
                return sum(found) / len(found)
        return None

    def seconds_left(self, left: Iterable[tuple[Alike, float]], jobs: int) -> float | None:
        """Wall time until all is done; None while no cell has finished, or when all have.

        Args:
            left: cells that are not done, each with the share of it that is left.
            jobs: cells that run at once.
        """
        rest = list(left)
        parts = [(self.seconds(cell), share) for cell, share in rest]
        if not rest or any(seconds is None for seconds, _ in parts):
            return None
        work = sum((seconds or 0.0) * share for seconds, share in parts)
        return work / min(jobs, len(rest))
