"""Numbers in fewer bytes: each block of them has a scale, and is rounded to int8, fp16 or bf16.

    s = max |d| / 127             over a block: 256 numbers in a row for int8, all of them for fp16 and bf16
    int8          q = floor(d / s + u),  u uniform in [0, 1): the mean over u of s q is d
    fp16, bf16    q = the nearest to d / s

What comes back is s q: for int8 within s of d, for the others within 2^-11 or 2^-8 of |d| (fp16: or 2^-25 of s, of what
is small beside the largest number). The scale keeps fp16 from losing what is small beside 1, as differences of weights
are; it is rounded up, so that the largest number is within reach.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Form:
    """How a number is told.

    Attributes:
        dtype: of q.
        block: numbers that share a scale; 0: all of a tensor's.
    """

    dtype: torch.dtype
    block: int


FORMS = {
    "fp16": Form(torch.float16, 0),
    "bf16": Form(torch.bfloat16, 0),
    "int8": Form(torch.int8, 256),
}

_LARGEST = 127


def rounded(values: Tensor, form: Form, draws: np.random.Generator) -> tuple[Tensor, Tensor]:
    """q and s of some numbers.

    Args:
        values: (n,) float64.
        form: how they are to be told.
        draws: for u; a form that rounds to the nearest draws nothing.

    Returns:
        (n,) in the form's type, and one float32 a block.
    """
    count, block = len(values), _block(len(values), form)
    rows = values.new_zeros(scales_of(count, form) * block)
    rows[:count] = values
    scales = _no_less(rows.view(-1, block).abs().amax(1) / _LARGEST)
    steps = values / _spread(scales.where(scales > 0, 1.0), count, form)
    if form.dtype != torch.int8:
        return steps.to(form.dtype), scales
    steps += torch.from_numpy(draws.random(count, dtype=np.float32))  # float32: 127 + u stays below 128
    return steps.floor().clamp(-_LARGEST, _LARGEST).to(torch.int8), scales


def restored(numbers: Tensor, scales: Tensor, form: Form) -> Tensor:
    """(n,) float64 of q and s; every product is exact, so that all machines agree on it."""
    return numbers.double() * _spread(scales, len(numbers), form)


def scales_of(count: int, form: Form) -> int:
    """How many scales some numbers have."""
    return -(-count // _block(count, form))


def _block(count: int, form: Form) -> int:
    return form.block or max(1, count)


def _spread(scales: Tensor, count: int, form: Form) -> Tensor:
    """(count,) float64: each number's scale."""
    return scales.double().repeat_interleave(_block(count, form))[:count]


def _no_less(values: Tensor) -> Tensor:
    """float32, rounded up."""
    near = values.float()
    return near.where(near.double() >= values, near.nextafter(torch.tensor(torch.inf)))
