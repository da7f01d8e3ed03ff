"""What queries gain by the row and the column of a key: SAM's relative positions, as further channels of a query.

A query in row i of a grid of h rows gains q R[i - j] with a key in row j. All its products with the 2 h - 1 offsets are
made at once, and the h of them that its row meets are a window into them, which moves by one from row to row.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sammit.models.products import in_onednn, times


class WithBiases(torch.autograd.Function):
    """(G, a, b, d) queries, (2 h - 1, d) and (2 w - 1, d) offsets, one precision -> (G, a, b, d + h + w).

    Queries stand at the first places of a grid of (h, w) and are divided by the square root of d. It has no second
    derivative.
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """Each query, what it gains by each row, and by each column."""
        offsets = torch.cat([rows.flip(0), columns.flip(0)])
        height, width = ctx.grid = (len(rows) // 2 + 1, len(columns) // 2 + 1)
        depth, q = q.shape[-1], q.contiguous()
        long = q.new_empty(*q.shape[:3], depth + height + width)
        torch.mul(q, depth**-0.5, out=long[..., :depth])
        for part, met in zip(_biases(long, ctx.grid), _met(_product(q, offsets), ctx.grid), strict=True):
            part.copy_(met)
        ctx.save_for_backward(q if any(ctx.needs_input_grad[1:]) else None, offsets)
        return long

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """The gradient of each of `forward`'s arguments."""
        q, offsets = ctx.saved_tensors
        products = grad.new_zeros(*grad.shape[:3], len(offsets))
        for part, met in zip(_biases(grad, ctx.grid), _met(products, ctx.grid), strict=True):
            met.copy_(part)
        depth = offsets.shape[1]
        to_q = _product(products, offsets.T).add_(grad[..., :depth], alpha=depth**-0.5)
        if q is None:
            return to_q, None, None
        to_offsets = products.flatten(0, 2).T @ q.flatten(0, 2)
        rows, columns = torch.split(to_offsets, [2 * side - 1 for side in ctx.grid])
        return to_q, rows.flip(0), columns.flip(0)


def _biases(long: Tensor, grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """(G, a, b, d + h + w) -> (G, a, b, h) and (G, a, b, w), its last channels."""
    by_row, by_column = torch.split(long[..., -sum(grid) :], list(grid), -1)
    return by_row, by_column


def _met(products: Tensor, grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """(G, a, b, 2 h - 1 + 2 w - 1), largest offset first -> the (G, a, b, h) and (G, a, b, w) of them that are met."""
    height, width = grid
    images, down, right, _ = products.stride()
    sides, first = products.shape[:3], products.storage_offset()
    by_row = products.as_strided((*sides, height), (images, down - 1, right, 1), first + height - 1)
    by_column = products.as_strided((*sides, width), (images, down, right - 1, 1), first + 2 * height + width - 2)
    return by_row, by_column


def _product(a: Tensor, b: Tensor) -> Tensor:
    """(..., c) and (m, c) -> (..., m), a b^T."""
    return times(a, b) if in_onednn(a) else a @ b.T
