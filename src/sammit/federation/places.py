"""Which of a tensor's numbers are told: the places of the largest, as steps or as a bitmap."""

from __future__ import annotations

from math import ceil

import numpy as np
import torch
from torch import Tensor


def count_of(total: int, share: float) -> int:
    """How many of `total` numbers a share is; at least one where there is any."""
    return ceil(total * share)


def largest(values: Tensor, count: int) -> Tensor:
    """(count,) int64, rising: the places of the largest magnitudes among (n,) values; of equal ones the first."""
    return values.abs().argsort(descending=True, stable=True)[:count].sort().values


def told(places: Tensor, total: int) -> Tensor:
    """Rising places below `total` as int32 steps from one to the next, or as `total` bits in uint8: what is shorter."""
    if 4 * len(places) < _bytes(total):
        return places.diff(prepend=torch.tensor([-1])).to(torch.int32)
    bits = np.zeros(total, bool)
    bits[places.numpy()] = True
    return torch.from_numpy(np.packbits(bits))


def heard(code: Tensor, count: int, total: int) -> Tensor:
    """The places that `told` told.

    Raises:
        ValueError: these are not `count` rising places below `total`.
    """
    if code.dtype == torch.int32 and code.shape == (count,):
        places = code.long().cumsum(0) - 1
        sound = bool((code > 0).all()) and (not count or int(places[-1]) < total)
    elif code.dtype == torch.uint8 and code.shape == (_bytes(total),):
        places = torch.from_numpy(np.flatnonzero(np.unpackbits(code.numpy())))
        sound = len(places) == count and (not count or int(places[-1]) < total)
    else:
        sound = False
    if not sound:
        raise ValueError(f"these are not {count} places below {total}")
    return places


def _bytes(bits: int) -> int:
    return -(-bits // 8)
