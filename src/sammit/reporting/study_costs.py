"""What a method of a study costs: parameters, bytes, steps, time and memory, means over its finished cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

ALIKE = 1.001
"""Messages that differ by no more than this factor carry the same tensors: the rest is numbers about them."""


@dataclass(frozen=True)
class Costs:
    """Means over cells; None where no cell tells.

    Attributes:
        cells: how many are there.
        trainable, shared: parameters that are trained, and that travel.
        up, down: bytes for a site and a round; `total` of the whole run, all sites together.
        steps: optimiser steps that a site takes in the whole run, every stage together, mean over sites.
        seconds: of all rounds; memory: largest resident bytes of the process.
    """

    cells: int
    trainable: float | None
    shared: float | None
    up: float | None
    down: float | None
    total: float | None
    steps: float | None
    seconds: float | None
    memory: float | None

    @property
    def moved(self) -> float | None:
        """Bytes up and down for a site and a round."""
        return None if self.up is None or self.down is None else self.up + self.down

    def sends_no_more_than(self, other: Costs) -> bool | None:
        """Whether a site sends no more bytes in a round; None where one of the two is not known."""
        return None if self.up is None or other.up is None else self.up <= ALIKE * other.up


def costs_of(summaries: Sequence[Mapping[str, Any]]) -> Costs:
    """The costs of a method from the `summary.json` of each of its cells."""

    def mean(*path: str) -> float | None:
        known = [float(value) for one in summaries if (value := _at(one, path)) is not None]
        return sum(known) / len(known) if known else None

    return Costs(
        cells=len(summaries),
        trainable=mean("parameters", "trainable"),
        shared=mean("parameters", "shared"),
        up=mean("traffic", "up_bytes_per_site_round"),
        down=mean("traffic", "down_bytes_per_site_round"),
        total=mean("traffic", "total_bytes"),
        steps=mean("steps", "per_site"),
        seconds=mean("seconds", "total"),
        memory=mean("peak_rss_bytes"),
    )


def _at(table: Mapping[str, Any], path: Sequence[str]) -> Any:
    """The value under some keys; None where there is none."""
    value: Any = table
    for key in path:
        value = (value or {}).get(key)
    return value
