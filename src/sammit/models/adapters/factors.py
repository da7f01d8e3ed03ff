"""A pair of low-rank factors, as low-rank adapters begin it, and what it adds."""

from __future__ import annotations

from math import sqrt

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from sammit.models.products import Linear


def factors(given: int, wanted: int, rank: int) -> tuple[nn.Linear, nn.Linear]:
    """A (rank x given), Kaiming, and B (wanted x rank), zero: at first their product adds nothing."""
    down, up = Linear(given, rank, bias=False), Linear(rank, wanted, bias=False)
    nn.init.kaiming_uniform_(down.weight, a=sqrt(5))
    nn.init.zeros_(up.weight)
    return down, up


def rest(given: int, wanted: int, residual: bool) -> nn.Parameter | None:
    """E (wanted x given), zero and never trained: what a server adds to W beside a pair; None without `residual`."""
    return nn.Parameter(torch.zeros(wanted, given), requires_grad=False) if residual else None


def added(given: Tensor, down: nn.Linear, up: nn.Linear, beside: Tensor | None, scale: float) -> Tensor:
    """(..., given) -> (..., wanted): scale (B A + E) x."""
    made: Tensor = up(down(given))
    return (made if beside is None else made + linear(given, beside)) * scale
