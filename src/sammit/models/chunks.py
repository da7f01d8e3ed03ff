"""Attention with relative positions on a processor, some queries at a time, with a backward pass of its own.

Folded into q and k, positions make every product of attention wider: at 64 x 64 tokens three times as wide as the head.
Here the scores of some queries with all keys, few enough to stay in the processor's cache, are begun as the sum of
their biases, and the product of q and k is added to them. What is kept for the backward pass is what came in; the
backward pass makes the weights again.

    S = q k^T / sqrt(d) + b_row + b_column      P = softmax S      O = P v      dP = dO v^T
    dS = P * (dP - rowsum(P * dP))      db_row, db_column = dS summed over the columns, over the rows

In bf16 scores and weights are rounded to it, as in attention without fusion; sums within a product and over chunks are
fp32.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

SCORES = 1 << 20
"""How many scores are made at a time, at most, unless one query has more: 4 MB."""


class AttentionInChunks(torch.autograd.Function):
    """(G, n, d) queries, (G, h * w, d) keys and values, (G, n, h) and (G, n, w) biases -> (G, n, d).

    G counts heads of images; all in one precision, on the processor. It has no second derivative.
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, by_row: Tensor, by_column: Tensor) -> Tensor:
        """What each query finds."""
        found, across, room = torch.empty_like(q), k.mT.contiguous(), _room(q, k)
        for heads, some in _chunks(q, k):
            weights = _weights(q[heads, some], across[heads], by_row[heads, some], by_column[heads, some], room)
            torch.bmm(weights, v[heads], out=found[heads, some])
        ctx.save_for_backward(q, k, v, by_row, by_column)
        return found

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        """The gradient of each of `forward`'s arguments."""
        q, k, v, by_row, by_column = ctx.saved_tensors
        to_q, to_row, to_column = (torch.empty_like(one) for one in (q, by_row, by_column))
        exact = torch.promote_types(k.dtype, torch.float32)  # of sums over chunks
        to_k, to_v = (torch.zeros_like(one, dtype=exact) for one in (k, v))
        across, values, room, more = k.mT.contiguous(), v.mT.contiguous(), _room(q, k), _room(q, k)
        for heads, some in _chunks(q, k):
            queries, asked = q[heads, some], grad[heads, some]
            weights = _weights(queries, across[heads], by_row[heads, some], by_column[heads, some], room)
            to_v[heads] += torch.bmm(weights.mT, asked)
            slopes = torch.bmm(asked, values[heads], out=_view(more, weights.shape))
            torch.ops.aten._softmax_backward_data(slopes, weights, -1, weights.dtype, grad_input=slopes)
            torch.bmm(slopes, k[heads], out=to_q[heads, some])
            to_k[heads] += torch.bmm(slopes.mT, queries)
            grid = slopes.view(*slopes.shape[:2], by_row.shape[-1], by_column.shape[-1])
            torch.sum(grid, -1, out=to_row[heads, some])
            torch.sum(grid, -2, out=to_column[heads, some])
        scale = q.shape[-1] ** -0.5
        return to_q.mul_(scale), to_k.mul_(scale).to(k.dtype), to_v.to(v.dtype), to_row, to_column


def _weights(q: Tensor, across: Tensor, by_row: Tensor, by_column: Tensor, room: Tensor) -> Tensor:
    """(g, c, h * w), written into `room`: how much each query of a chunk takes of every key of its head."""
    grid = _view(room, (*q.shape[:2], by_row.shape[-1], by_column.shape[-1]))
    torch.add(by_row.unsqueeze(-1), by_column.unsqueeze(-2), out=grid)
    scores = grid.flatten(-2)
    torch.baddbmm(scores, q, across, alpha=q.shape[-1] ** -0.5, out=scores)
    return torch.softmax(scores, -1, out=scores)


def _chunks(q: Tensor, k: Tensor) -> Iterator[tuple[slice, slice]]:
    """All (heads, queries) in pieces of at most `SCORES` scores: whole heads where they fit, else parts of one."""
    queries, keys = q.shape[1], k.shape[1]
    heads = max(1, SCORES // (queries * keys))
    rows = min(queries, max(1, SCORES // keys))
    for head in range(0, q.shape[0], heads):
        for row in range(0, queries, rows):
            yield slice(head, head + heads), slice(row, row + rows)


def _room(q: Tensor, k: Tensor) -> Tensor:
    """Memory for the scores of one chunk; fresh memory for every chunk would cost more than the sums in it."""
    return q.new_empty(min(q.shape[0] * q.shape[1] * k.shape[1], max(SCORES, k.shape[1])))


def _view(room: Tensor, shape: tuple[int, ...] | torch.Size) -> Tensor:
    """The first numbers of `room` as a tensor of that shape."""
    return room[: torch.Size(shape).numel()].view(shape)
