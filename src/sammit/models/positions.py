"""What queries gain by the row and the column of a key: SAM's relative positions, as further channels of a query.

A query in row i of a grid of h rows gains q R[i - j] with a key in row j. All its products with the 2 h - 1 offsets are
made at once, and the h of them that its row meets are a window into them, which moves by one from row to row.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sammit.models.products import in_onednn, times


def with_biases(q: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """(G, a, b, d) -> (G, a, b, d + h + w): queries over the root of d, what each gains by each row, by each column.

    Args:
        q: the queries of the first places of a grid of (h, w), in order.
        rows: (2 h - 1, d) offsets.
        columns: (2 w - 1, d).
    """
    grid, depth = grid_of(rows, columns), q.shape[-1]
    long = q.new_empty(*q.shape[:3], depth + sum(grid))
    torch.mul(q, depth**-0.5, out=long[..., :depth])
    products = _product(q, _largest_first(rows, columns))
    for part, met in zip(_biases(long, grid), _met(products, grid), strict=True):
        part.copy_(met)
    return long


def to_queries(grad: Tensor, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
    """From the gradient of `with_biases`: that of the queries, and that of their products with all offsets."""
    grid, offsets = grid_of(rows, columns), _largest_first(rows, columns)
    depth = offsets.shape[1]
    products = grad.new_zeros(*grad.shape[:3], len(offsets))
    for part, met in zip(_biases(grad, grid), _met(products, grid), strict=True):
        met.copy_(part)
    return _product(products, offsets.T).add_(grad[..., :depth], alpha=depth**-0.5), products


def to_offsets(products: Tensor, q: Tensor, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
    """The gradient of offsets by row and by column, from that of the products that `to_queries` gives."""
    both = products.flatten(0, 2).T @ q.flatten(0, 2)
    by_row, by_column = torch.split(both, [len(rows), len(columns)])
    return by_row.flip(0), by_column.flip(0)


def grid_of(rows: Tensor, columns: Tensor) -> tuple[int, int]:
    """(h, w) of which there are 2 h - 1 and 2 w - 1 offsets."""
    return len(rows) // 2 + 1, len(columns) // 2 + 1


def _largest_first(rows: Tensor, columns: Tensor) -> Tensor:
    """Offsets by row, then by column, turned round: the places that a query meets are then in order."""
    return torch.cat([rows.flip(0), columns.flip(0)])


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
