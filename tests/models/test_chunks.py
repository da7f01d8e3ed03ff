"""Attention in chunks against folded attention, whose definition is tested, and its gradients against differences."""

from __future__ import annotations

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from models.conftest import relative
from sammit.models import attention, chunks, products

GRIDS = [(3, 5), (5, 2), (1, 4), (4, 4)]


def drawn(grid: tuple[int, int], dtype: torch.dtype = torch.float64, depth: int = 4) -> tuple[torch.Tensor, ...]:
    """Queries, keys and values of two images and three heads, and relative positions."""
    torch.manual_seed(0)
    qkv = [torch.randn(2, 3, *grid, depth, dtype=dtype, requires_grad=True) for _ in range(3)]
    return (*qkv, *(torch.randn(2 * side - 1, depth, dtype=dtype, requires_grad=True) for side in grid))


@pytest.mark.parametrize("scores", [1, 7, 60, 1 << 21], ids=["a query each", "parts of heads", "some heads", "all"])
@pytest.mark.parametrize("depth", [4, 9], ids=["a large grid", "a small grid"])
@pytest.mark.parametrize("grid", GRIDS)
def test_equals_folded_attention_with_every_gradient(
    grid: tuple[int, int], depth: int, scores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows and columns together are more than a head's channels, or not."""
    assert (sum(grid) > depth) == (depth == 4)
    monkeypatch.setattr(chunks, "AT_ONCE", scores * 8)
    *qkv, rows, columns = given = drawn(grid, depth=depth)
    results = []
    for way in (attention.folded_attention, attention.chunked_attention):
        found = way(*qkv, (rows, columns))
        asked = torch.linspace(-1, 1, found.numel(), dtype=found.dtype).view_as(found)
        results.append([found, *torch.autograd.grad(found, given, asked)])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-12, atol=1e-12)


def test_queries_at_the_first_places_of_a_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "AT_ONCE", 20 * 8)
    q, k, v, *tables = drawn((4, 5))
    few = q[:, :, :2, :3]
    expected = attention.folded_attention(few, k, v, (tables[0], tables[1]))
    assert relative(attention.chunked_attention(few, k, v, (tables[0], tables[1])), expected) <= 1e-12


def test_gradients_by_differences(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "AT_ONCE", 11 * 8)
    assert torch.autograd.gradcheck(
        lambda q, k, v, *tables: attention.chunked_attention(q, k, v, (tables[0], tables[1])), drawn((2, 3))
    )


def test_scores_that_differ_by_much_stay_finite() -> None:
    """exp(200) is beyond fp32: the largest score is taken off first."""
    q, k, v, *tables = drawn((4, 4), torch.float32)
    found = attention.chunked_attention(q * 100, k * 100, v, (tables[0], tables[1]))
    found.sum().backward()
    assert found.isfinite().all()
    assert all(one.grad is not None and one.grad.isfinite().all() for one in (q, k, v, *tables))


def plain_attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, tables: attention.Tables) -> torch.Tensor:
    """Not fused: the map of all pairs, step by step."""
    rows, columns = (attention.relative_table(table, side) for table, side in zip(tables, k.shape[2:4], strict=True))
    scores = (q * q.shape[-1] ** -0.5).flatten(2, 3) @ k.flatten(2, 3).mT
    grid = scores.unflatten(2, q.shape[2:4]).unflatten(-1, k.shape[2:4])
    grid = grid + torch.einsum("bnhwc,hkc->bnhwk", q, rows).unsqueeze(-1)
    grid = grid + torch.einsum("bnhwc,wkc->bnhwk", q, columns).unsqueeze(-2)
    return grid.reshape(scores.shape).softmax(-1) @ v.flatten(2, 3)


@pytest.mark.parametrize("scores", [100, 1 << 20], ids=["many chunks", "one"])
def test_bf16_errs_by_as_much_as_plain_attention(scores: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against double precision, within a factor of two: scores and weights are rounded there too."""
    monkeypatch.setattr(chunks, "AT_ONCE", scores)
    exact = drawn((9, 8))
    exact_out = attention.folded_attention(*exact[:3], (exact[3], exact[4]))
    asked = torch.linspace(-1, 1, exact_out.numel(), dtype=exact_out.dtype).view_as(exact_out)
    expected = [exact_out, *torch.autograd.grad(exact_out, exact, asked)]
    apart = {}
    for way in (plain_attention, attention.chunked_attention):
        given = tuple(one.detach().bfloat16().requires_grad_() for one in exact)
        found = way(*given[:3], (given[3], given[4]))
        results = [found, *torch.autograd.grad(found, given, asked.bfloat16())]
        assert all(one.dtype == torch.bfloat16 for one in results)
        apart[way] = [relative(one, other) for one, other in zip(results, expected, strict=True)]
    for chunked, plain in zip(apart[attention.chunked_attention], apart[plain_attention], strict=True):
        assert chunked <= 2 * plain


def test_only_where_it_pays_and_can_be_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a processor; not where plain attention is asked for, nor in a program that is traced."""
    keys = torch.empty(1, 1, 2, 2, 1)
    assert attention.ways_of_ours(keys)
    assert not attention.ways_of_ours(keys.to("meta"))
    with sdpa_kernel(SDPBackend.MATH):
        assert not attention.ways_of_ours(keys)
    monkeypatch.setattr(products, "is_tracing", lambda: True)
    assert not attention.ways_of_ours(keys)
