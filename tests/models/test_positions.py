"""What queries gain by their keys' places: against the definition, and gradients against differences."""

from __future__ import annotations

import pytest
import torch

from sammit.models.attention import relative_table
from sammit.models.positions import to_offsets, to_queries, with_biases

SIDES = [(3, 5), (5, 2), (1, 4), (4, 4)]


def drawn(grid: tuple[int, int], asking: tuple[int, int]) -> list[torch.Tensor]:
    """Queries of the first places of a grid, and offsets by row and by column."""
    torch.manual_seed(0)
    shapes = [(6, *asking, 3), *((2 * side - 1, 3) for side in grid)]
    return [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]


@pytest.mark.parametrize("grid", SIDES)
@pytest.mark.parametrize("few", [False, True], ids=["all places ask", "the first places ask"])
def test_equals_the_definition(grid: tuple[int, int], few: bool) -> None:
    asking = (max(1, grid[0] - 1), max(1, grid[1] - 1)) if few else grid
    q, rows, columns = drawn(grid, asking)
    found = with_biases(*(one.detach() for one in (q, rows, columns)))
    by_row = torch.einsum("gabc,akc->gabk", q, relative_table(rows, grid[0])[: asking[0]])
    by_column = torch.einsum("gabc,bkc->gabk", q, relative_table(columns, grid[1])[: asking[1]])
    torch.testing.assert_close(found, torch.cat([q * 3**-0.5, by_row, by_column], -1), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("grid", SIDES)
def test_its_gradients_are_those_of_the_definition(grid: tuple[int, int]) -> None:
    given = q, rows, columns = drawn(grid, grid)
    by_row = torch.einsum("gabc,akc->gabk", q, relative_table(rows, grid[0]))
    by_column = torch.einsum("gabc,bkc->gabk", q, relative_table(columns, grid[1]))
    defined = torch.cat([q * 3**-0.5, by_row, by_column], -1)
    asked = torch.randn_like(defined)
    q, rows, columns = (one.detach() for one in given)
    to_q, products = to_queries(asked, rows, columns)
    found = (to_q, *to_offsets(products, q, rows, columns))
    for one, other in zip(found, torch.autograd.grad(defined, given, asked), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
