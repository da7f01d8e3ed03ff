"""When a further cell may start: not before the memory that it will need is free."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from sammit.study.machine import free_memory, held_memory

UNKNOWN = 0.45
"""Share of the memory free at the start that a cell counts for while nothing is known of its kind: two fit."""


class Admission:
    """Weighs a cell's need against what is free and what the running ones will still take."""

    def __init__(self, free: Callable[[], int] = free_memory, held: Callable[[int], int] = held_memory) -> None:
        """
        Args:
            free: bytes that are free now.
            held: bytes that a process holds now.
        """
        self._free, self._held = free, held
        self._unknown = int(free() * UNKNOWN)

    def need(self, peak: int | None) -> int:
        """Bytes that a cell counts for: the peak of finished ones of its kind, or a share of all without one."""
        return self._unknown if peak is None else peak

    def admits(self, need: int, running: Iterable[tuple[int, int]]) -> bool:
        """Whether a cell may start now; the first one always may.

        Args:
            need: bytes it will take at its peak.
            running: (process, need) of the cells that run.
        """
        going = list(running)
        to_come = sum(max(0, other - self._held(pid)) for pid, other in going)
        return not going or need <= self._free() - to_come
