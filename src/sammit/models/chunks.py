"""Attention with relative positions on a processor, some queries at a time, with a backward pass of its own.

The scores of some queries with all keys, few enough to stay in the processor's cache, are made at a time. To a query is
joined what it gains by a key's row and column (`models/positions.py`). In a small grid the keys say their row and
column too, and one product makes the score. In a large one, 64 x 64 tokens, that product would be three times as wide
as the head: there a score is begun as the sum of its two biases, and the product of q and k is added to it. What is
kept for the backward pass is what came in; the backward pass makes the weights again.

    S = q k^T + b_row + b_column      P = softmax S      O = P v      dP = dO v^T
    dS = P * (dP - rowsum(P * dP))      db_row, db_column = dS summed over the columns, over the rows

In bf16 scores and weights are rounded to it, as in attention without fusion; sums within a product and over chunks are
fp32.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from sammit.models.positions import grid_of, to_offsets, to_queries, with_biases
from sammit.models.products import in_onednn, times

AT_ONCE = 4 << 20
"""How many bytes of scores are made at a time, at most, unless one query has more."""


class AttentionInChunks(torch.autograd.Function):
    """(G, a, b, d) queries, (G, h * w, d) keys and values, (2 h - 1, d) and (2 w - 1, d) offsets -> (G, a * b, d).

    G counts heads of images; queries stand at the first places of the grid. All are in one precision, in order in
    memory, on the processor. It has no second derivative.
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """What each query finds."""
        ctx.save_for_backward(q, k, v, rows, columns)
        grid = grid_of(rows, columns)
        q, k = with_biases(q, rows, columns).flatten(1, 2), _placed(k, grid)
        found, room = v.new_empty(*q.shape[:2], v.shape[-1]), _room(q, k)
        for heads, some in _chunks(q, k):
            weights = _weights(q[heads, some], k[heads], grid, room)
            found[heads, some] = _product(weights, v[heads])
        return found

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """The gradient of each of `forward`'s arguments."""
        asking, keys, v, rows, columns = ctx.saved_tensors
        grid = grid_of(rows, columns)
        q, k, grad = with_biases(asking, rows, columns).flatten(1, 2), _placed(keys, grid), grad.contiguous()
        exact, inner, depth = torch.promote_types(k.dtype, torch.float32), keys.shape[-1], k.shape[-1]
        to_q, (to_k, to_v) = torch.empty_like(q), (v.new_zeros(v.mT.shape, dtype=exact) for _ in range(2))
        room, more = _room(q, k), _room(q, k)
        for heads, some in _chunks(q, k):
            queries, asked, slope = q[heads, some], grad[heads, some], to_q[heads, some]
            weights = _weights(queries, k[heads], grid, room)
            to_v[heads].add_(_product(asked.mT, weights))
            slopes = _product(asked, v[heads].mT, more)
            torch.ops.aten._softmax_backward_data(slopes, weights, -1, weights.dtype, grad_input=slopes)
            slope[..., :depth] = _product(slopes, k[heads])
            to_k[heads].add_(_product(queries[..., :inner].mT, slopes))
            if queries.shape[-1] > depth:
                by_row, by_column = torch.split(slope[..., depth:], list(grid), -1)
                pairs = slopes.view(*slopes.shape[:2], *grid)
                torch.sum(pairs, -1, out=by_row)
                torch.sum(pairs, -2, out=by_column)
        to_asking, products = to_queries(to_q.view(*asking.shape[:3], -1), rows, columns)
        learned = any(ctx.needs_input_grad[3:])
        to_tables = to_offsets(products, asking, rows, columns) if learned else (None, None)
        return to_asking, to_k.mT.to(k.dtype), to_v.mT.to(v.dtype), *to_tables


def _placed(k: Tensor, grid: tuple[int, int]) -> Tensor:
    """(G, h * w, d) -> (G, h * w, d + h + w), keys that say their row and column; unchanged in a large grid."""
    if sum(grid) > k.shape[-1]:
        return k
    places = torch.cartesian_prod(*(torch.arange(side) for side in grid))
    known = [one_hot(place, side).to(k.dtype) for place, side in zip(places.unbind(-1), grid, strict=True)]
    return torch.cat([k, *(one.expand(len(k), -1, -1) for one in known)], dim=-1)


def _weights(q: Tensor, k: Tensor, grid: tuple[int, int], room: Tensor) -> Tensor:
    """(g, c, h * w), perhaps in `room`: how much each query of a chunk takes of every key of its head."""
    depth = k.shape[-1]
    if q.shape[-1] == depth:
        scores = _product(q, k.mT, room)
    else:
        by_row, by_column = torch.split(q[..., depth:], list(grid), -1)
        scores = _view(room, (*q.shape[:2], k.shape[1]))
        torch.add(by_row.unsqueeze(-1), by_column.unsqueeze(-2), out=scores.view(*q.shape[:2], *grid))
        if _by_onednn(q):
            scores += _product(q[..., :depth], k.mT)
        else:
            torch.baddbmm(scores, q[..., :depth], k.mT, out=scores)
    return torch.softmax(scores, -1, out=scores)


def _product(a: Tensor, b: Tensor, room: Tensor | None = None) -> Tensor:
    """(g, n, c) and (g, c, m) -> (g, n, m), a b of each of g, perhaps in `room`."""
    if _by_onednn(a):
        return times(a[0], b[0].mT).unsqueeze(0)
    return torch.bmm(a, b) if room is None else torch.bmm(a, b, out=_view(room, (*a.shape[:2], b.shape[2])))


def _by_onednn(a: Tensor) -> bool:
    """Whether the product of a chunk is one of two large matrices that oneDNN is the faster at."""
    return a.shape[0] == 1 and in_onednn(a)


def _chunks(q: Tensor, k: Tensor) -> Iterator[tuple[slice, slice]]:
    """All (heads, queries) in pieces of at most `AT_ONCE`: whole heads where they fit, else parts of one."""
    queries, keys, scores = q.shape[1], k.shape[1], AT_ONCE // q.itemsize
    heads = max(1, scores // (queries * keys))
    rows = min(queries, max(1, scores // keys))
    for head in range(0, q.shape[0], heads):
        for row in range(0, queries, rows):
            yield slice(head, head + heads), slice(row, row + rows)


def _room(q: Tensor, k: Tensor) -> Tensor:
    """Memory for the scores of one chunk; fresh memory for every chunk would cost more than the sums in it."""
    return q.new_empty(min(q.shape[0] * q.shape[1] * k.shape[1], max(AT_ONCE // q.itemsize, k.shape[1])))


def _view(room: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The first numbers of `room` as a tensor of that shape."""
    return room[: torch.Size(shape).numel()].view(shape)
