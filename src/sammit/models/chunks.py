"""Attention with relative positions on a processor, some queries at a time, with a backward pass of its own.

Folded into q and k, positions make every product of attention wider: at 64 x 64 tokens three times as wide as the head.
Here the scores of some queries with all keys, few enough to stay in the processor's cache, are begun as the sum of
their biases, and the product of q and k is added to them. What is kept for the backward pass is what came in, what went
out and one number a query, the logarithm of the sum that softmax divides by; from it the backward pass makes the
weights again, as fused attention does.

    S = q k^T + b_row + b_column      P = exp(S - log sum exp S)      O = P v
    dS = P * (dO v^T - rowsum(dO * O))      db_row, db_column = dS summed over the columns, over the rows
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

SCORES = 1 << 21
"""How many scores are made at a time, at most, unless one query has more: 8 MB."""


class AttentionInChunks(torch.autograd.Function):
    """(G, n, d) scaled queries, (G, h * w, d) keys and values, (G, n, h) and (G, n, w) biases -> (G, n, d).

    G counts heads of images; all in one precision, on the processor. It has no second derivative.
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, by_row: Tensor, by_column: Tensor) -> Tensor:
        """What each query finds."""
        found, logs = torch.empty_like(q), q.new_empty(*q.shape[:2], 1)
        room = _room(q, k)
        for heads, some in _chunks(q, k):
            scores = _scores(q[heads, some], k[heads], by_row[heads, some], by_column[heads, some], room)
            largest = scores.amax(-1, keepdim=True)
            total = scores.sub_(largest).exp_().sum(-1, keepdim=True)
            found[heads, some] = torch.bmm(scores, v[heads]).div_(total)
            logs[heads, some] = total.log_().add_(largest)
        ctx.save_for_backward(q, k, v, by_row, by_column, found, logs)
        return found

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        """The gradient of each of `forward`'s arguments."""
        q, k, v, by_row, by_column, found, logs = ctx.saved_tensors
        shared = (grad * found).sum(-1, keepdim=True)
        shifted = by_row - logs
        to_q, to_row, to_column = (torch.empty_like(one) for one in (q, by_row, by_column))
        to_k, to_v = torch.zeros_like(k), torch.zeros_like(v)
        room, more = _room(q, k), _room(q, k)
        for heads, some in _chunks(q, k):
            queries, asked = q[heads, some], grad[heads, some]
            weights = _scores(queries, k[heads], shifted[heads, some], by_column[heads, some], room).exp_()
            to_v[heads].baddbmm_(weights.mT, asked)
            slopes = torch.bmm(asked, v[heads].mT, out=_view(more, weights.shape))
            slopes.sub_(shared[heads, some]).mul_(weights)
            to_q[heads, some] = torch.bmm(slopes, k[heads])
            to_k[heads].baddbmm_(slopes.mT, queries)
            grid = slopes.view(*slopes.shape[:2], by_row.shape[-1], by_column.shape[-1])
            to_row[heads, some], to_column[heads, some] = grid.sum(-1), grid.sum(-2)
        return to_q, to_k, to_v, to_row, to_column


def _scores(q: Tensor, k: Tensor, by_row: Tensor, by_column: Tensor, room: Tensor) -> Tensor:
    """(g, c, h * w), written into `room`: what the queries of a chunk score with all keys of their heads."""
    grid = _view(room, (*q.shape[:2], by_row.shape[-1], by_column.shape[-1]))
    torch.add(by_row.unsqueeze(-1), by_column.unsqueeze(-2), out=grid)
    return grid.flatten(-2).baddbmm_(q, k.mT)


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
