"""A pair of low-rank factors, as low-rank adapters begin it."""

from __future__ import annotations

from math import sqrt

from torch import nn


def factors(given: int, wanted: int, rank: int) -> tuple[nn.Linear, nn.Linear]:
    """A (rank x given), Kaiming, and B (wanted x rank), zero: at first their product adds nothing."""
    down, up = nn.Linear(given, rank, bias=False), nn.Linear(rank, wanted, bias=False)
    nn.init.kaiming_uniform_(down.weight, a=sqrt(5))
    nn.init.zeros_(up.weight)
    return down, up
