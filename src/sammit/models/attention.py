"""SAM's attention, fused: relative positions folded into q and k, and no work on what only fills windows up.

SAM's attention adds a bias that depends on q: rel_h[q, k_row] + rel_w[q, k_col]. Handed to fused attention as a mask,
that bias needs a gradient and drops it to the slow path. Folded into longer vectors it is plain attention:

    q' = [q * s, q R_h, q R_w]      k' = [k, onehot(row), onehot(column)]      q' k'^T = s q k^T + bias

Windows that stick out over the grid are filled up in the original with tokens of zeros. They are attended to; what
they find themselves is thrown away. Here qkv is computed before the grid is cut into windows: what fills up is then the
layer's answer to zeros, its bias, and costs no product on the way in or out.

On a processor the longer vectors cost more than they save: `models/chunks.py` adds the bias instead.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import interpolate, max_pool2d, pad, scaled_dot_product_attention

from sammit.models.chunks import AttentionInChunks
from sammit.models.products import ways_of_ours

Tables = tuple[Tensor, Tensor]
"""Relative positions by row and by column, (L, d) each."""

Strips = list[tuple[int, int]]
"""How a side of the grid is cut: (tokens, queries along a window's side) of each strip."""


def attention(qkv: Tensor, heads: int, tables: Tables | None) -> Tensor:
    """(B, h, w, 3 D) -> (B, h, w, D): all tokens of an image among themselves.

    Args:
        qkv: queries, keys and values of each token.
        heads: D is heads times d.
        tables: relative positions; None where the model has none.
    """
    grid = (qkv.shape[1], qkv.shape[2])
    q, k, v = partition(qkv, grid, heads, 3)
    return unpartition(_attend(q, k, v, tables), grid)


def windowed_attention(qkv: Tensor, heads: int, tables: Tables | None, window: int, filler: Tensor | None) -> Tensor:
    """(B, h, w, 3 D) -> (B, h, w, D): tokens of a window among themselves and with what fills the window up.

    Args:
        qkv, heads, tables: as in `attention`.
        window: side of a window in tokens.
        filler: (3 D,) the qkv of a token that is not there; None where every window is whole.
    """
    # Small kernels in a row are cheap on a processor; a GPU is faster at a few queries too many.
    apart = qkv.device.type == "cpu"
    rows, columns = (_strips(side, window, apart) for side in qkv.shape[1:3])
    grid = _queries_apart(qkv)
    fillers = (None, None) if filler is None else _queries_apart(filler)
    bands = []
    for band, height in zip(_split(grid, rows, 1), rows, strict=True):
        parts = []
        for part, width in zip(_split(band, columns, 2), columns, strict=True):
            asking, whole = (height[1], width[1]), (window, window)
            (q,) = partition(filled(part[0], asking, fillers[0]), asking, heads, 1)
            k, v = partition(filled(part[1], whole, fillers[1]), whole, heads, 2)
            parts.append(unpartition(_attend(q, k, v, tables), (height[0], width[0])))
        bands.append(torch.cat(parts, dim=2))
    return torch.cat(bands, dim=1)


def pooled_attention(qkv: Tensor, heads: int, window: int, filler: Tensor | None) -> Tensor:
    """(B, h, w, 3 D), h and w even -> (B, h / 2, w / 2, D): the tokens of a window asked by four neighbours as one.

    A query is the largest of its four in each channel.

    Args:
        qkv, heads, filler: as in `windowed_attention`.
        window: side of a window in tokens, even; 0: the whole grid is one.
    """
    height, width = qkv.shape[1:3]
    sides = (window, window) if window else (height, width)
    queries, tokens = _queries_apart(filled(qkv, sides, filler))
    (q,) = partition(pooled(queries), (sides[0] // 2, sides[1] // 2), heads, 1)
    k, v = partition(tokens, sides, heads, 2)
    return unpartition(_attend(q, k, v, None), (height // 2, width // 2))


def pooled(tokens: Tensor) -> Tensor:
    """(B, h, w, C) -> (B, h / 2, w / 2, C), the largest of each four neighbours."""
    return max_pool2d(tokens.permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1)


def _queries_apart(qkv: Tensor) -> tuple[Tensor, Tensor]:
    """(..., 3 D) -> (..., D) queries and (..., 2 D) keys and values; gradients meet again in one pass."""
    width = qkv.shape[-1] // 3
    q, kv = torch.split(qkv, [width, 2 * width], -1)
    return q, kv


def _split(grid: tuple[Tensor, Tensor], strips: Strips, axis: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Queries, and keys and values, strip after strip along an axis."""
    lengths = [length for length, _ in strips]
    q, kv = (torch.split(one, lengths, axis) for one in grid)
    return zip(q, kv, strict=True)


def _strips(length: int, window: int, apart: bool) -> Strips:
    """How a side of `length` tokens is cut.

    With `apart` what is left over after the last whole window is a strip of its own, in which a window has as many
    queries as tokens.
    """
    rest = length % window
    if not rest or not apart:
        return [(length, window)]
    return [(length - rest, window), (rest, rest)] if length > window else [(rest, rest)]


def filled(tokens: Tensor, sides: tuple[int, int], filler: Tensor | None) -> Tensor:
    """(B, h, w, C) with h and w filled up to multiples of `sides` at the end with a token of (C,)."""
    if filler is None:
        return tokens
    batch, height, width, channels = tokens.shape
    if missing := -width % sides[1]:
        tokens = torch.cat([tokens, filler.expand(batch, height, missing, channels)], dim=2)
    if missing := -height % sides[0]:
        tokens = torch.cat([tokens, filler.expand(batch, missing, tokens.shape[2], channels)], dim=1)
    return tokens


def partition(tokens: Tensor, sides: tuple[int, int], heads: int, count: int) -> tuple[Tensor, ...]:
    """(B, h, w, n * D), h and w multiples of `sides` (a, b) -> n of (B * windows, heads, a, b, d)."""
    batch, height, width, channels = tokens.shape
    rows, columns = height // sides[0], width // sides[1]
    cut = tokens.reshape(batch, rows, sides[0], columns, sides[1], count, heads, channels // count // heads)
    return cut.permute(5, 0, 1, 3, 6, 2, 4, 7).reshape(count, -1, heads, *sides, cut.shape[-1]).unbind()


def unpartition(windows: Tensor, shape: tuple[int, int]) -> Tensor:
    """The inverse of `partition` for one of its n, cut to (h, w): (B * windows, heads, a, b, d) -> (B, h, w, D)."""
    _, heads, *sides, depth = windows.shape
    rows, columns = -(-shape[0] // sides[0]), -(-shape[1] // sides[1])
    joined = windows.reshape(-1, rows, columns, heads, *sides, depth).permute(0, 1, 4, 2, 5, 3, 6)
    return joined.reshape(-1, rows * sides[0], columns * sides[1], heads * depth)[:, : shape[0], : shape[1]]


def _attend(q: Tensor, k: Tensor, v: Tensor, tables: Tables | None) -> Tensor:
    """(B, heads, a, b, d) queries of the first places of (B, heads, h, w, d) keys and values -> (B, heads, a, b, d)."""
    if tables is None:
        mixed = scaled_dot_product_attention(q.flatten(2, 3), k.flatten(2, 3), v.flatten(2, 3))
    elif ways_of_ours(k):
        mixed = chunked_attention(q, k, v, tables)
    else:
        mixed = folded_attention(q, k, v, tables)
    return mixed.reshape(q.shape)


def folded_attention(q: Tensor, k: Tensor, v: Tensor, tables: Tables) -> Tensor:
    """(B, heads, a, b, d) queries at the first places of a grid of (B, heads, h, w, d) -> (B, heads, a * b, d)."""
    height, width, depth = k.shape[2:]
    by_row, by_column = _biases(q, (height, width), tables)
    long_q = torch.cat([q * depth**-0.5, by_row, by_column], dim=-1).flatten(2, 3)
    rows = torch.eye(height, dtype=k.dtype, device=k.device).unsqueeze(1)
    columns = torch.eye(width, dtype=k.dtype, device=k.device).unsqueeze(0)
    places = (rows.expand(*k.shape[:4], -1), columns.expand(*k.shape[:4], -1))
    long_k = torch.cat([k, *places], dim=-1).flatten(2, 3)
    # Fused kernels want one width for q, k and v.
    long_v = pad(v.flatten(2, 3), (0, height + width))
    return scaled_dot_product_attention(long_q, long_k, long_v, scale=1.0)[..., :depth]


def chunked_attention(q: Tensor, k: Tensor, v: Tensor, tables: Tables) -> Tensor:
    """The same as `folded_attention`, by other means."""
    offsets = (_resized(table, side).to(q.dtype) for table, side in zip(tables, k.shape[2:4], strict=True))
    keys, values = (one.flatten(2, 3).flatten(0, 1).contiguous() for one in (k, v))
    found = AttentionInChunks.apply(q.flatten(0, 1).contiguous(), keys, values, *offsets)  # type: ignore[no-untyped-call]
    return found.unflatten(0, q.shape[:2])  # type: ignore[no-any-return]


def _biases(q: Tensor, grid: tuple[int, int] | torch.Size, tables: Tables) -> tuple[Tensor, Tensor]:
    """(B, heads, a, b, h) and (B, heads, a, b, w): what a query's score gains by a key's row and by its column."""
    rows, columns = (relative_table(table, side) for table, side in zip(tables, grid, strict=True))
    by_row = torch.einsum("bnhwc,hkc->bnhwk", q, rows[: q.shape[2]])
    by_column = torch.einsum("bnhwc,wkc->bnhwk", q, columns[: q.shape[3]])
    return by_row, by_column


def relative_table(table: Tensor, size: int) -> Tensor:
    """(L, d) offsets -> (size, size, d), entry [i, j] for offset i - j; resized where L is not 2 size - 1."""
    place = torch.arange(size, device=table.device)
    return _resized(table, size)[place[:, None] - place[None, :] + size - 1]


def _resized(table: Tensor, size: int) -> Tensor:
    """(L, d) offsets -> (2 size - 1, d)."""
    length = 2 * size - 1
    return table if len(table) == length else interpolate(table.T.unsqueeze(0), size=length, mode="linear")[0].T
