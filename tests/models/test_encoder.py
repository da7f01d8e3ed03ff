"""The encoder against transformers' own in double precision, and attention against its definition."""

from __future__ import annotations

from functools import partial
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import SamVisionConfig
from transformers.models.sam.modeling_sam import SamVisionEncoder

from models.conftest import randomise, relative
from sammit.models import products
from sammit.models.attention import (
    attention,
    filled,
    folded_attention,
    partition,
    relative_table,
    unpartition,
    windowed_attention,
)
from sammit.models.encoder import Encoder, resized_grid


def vision_config(size: int, **changes: object) -> SamVisionConfig:
    """Three blocks of 32 channels: two in windows, one global."""
    values: dict[str, object] = {
        "hidden_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "global_attn_indexes": [1],
        "image_size": size,
        "patch_size": 16,
        "window_size": 5,
        "output_channels": 16,
        "mlp_dim": 64,
        "initializer_range": 0.02,
    }
    return SamVisionConfig(**{**values, **changes})


def encoders(config: SamVisionConfig) -> tuple[Encoder, SamVisionEncoder]:
    """Ours in fp32 and transformers' in fp64 with the same weights, none of them zero."""
    torch.manual_seed(0)
    config._attn_implementation = "eager"
    original, reference = SamVisionEncoder(config), SamVisionEncoder(config)
    randomise(original, 0.1)
    reference.load_state_dict(original.state_dict())
    return Encoder(original), reference.double()


@pytest.mark.parametrize("size", [128, 256])
@pytest.mark.parametrize("window", [4, 5, 14], ids=["exact windows", "padded windows", "window wider than the grid"])
@pytest.mark.parametrize("way", ["in chunks", "in chunks, by oneDNN", "folded"])
def test_equals_transformers_with_every_gradient(
    size: int, window: int, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """128 and 256 px are grids of 8 and 16: 4 divides them, 5 and 14 do not."""
    monkeypatch.setattr("sammit.models.attention.ways_of_ours", lambda _: way != "folded")
    onednn = way.endswith("oneDNN") and torch.backends.mkldnn.is_available()
    monkeypatch.setattr(products, "mkl_holds_back", lambda: onednn)
    monkeypatch.setattr(products, "PAYS", 0)
    monkeypatch.setattr("sammit.models.chunks.AT_ONCE", 1 << 14)  # less than a head at 256 px
    ours, reference = encoders(vision_config(size, window_size=window))
    pixels = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(3))
    weight = torch.randn(2, 16, size // 16, size // 16, generator=torch.Generator().manual_seed(4))
    x, y = pixels.clone().requires_grad_(), pixels.double().requires_grad_()
    found, expected = ours(x), reference(y).last_hidden_state
    assert relative(found, expected) <= 1e-5
    (found * weight).sum().backward()
    (expected * weight.double()).sum().backward()
    assert relative(x.grad, y.grad) <= 1e-5
    theirs = dict(reference.named_parameters())
    assert {name for name, _ in ours.named_parameters()} == set(theirs)
    for name, parameter in ours.named_parameters():
        assert relative(parameter.grad, theirs[name].grad) <= 2e-5, name


@pytest.mark.parametrize("tokens", [1, 50, 128])
def test_in_use_the_mlp_takes_some_tokens_at_a_time(tokens: int, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, _ = encoders(vision_config(128))
    pixels = torch.randn(2, 3, 128, 128)
    expected = ours(pixels)
    monkeypatch.setattr("sammit.models.encoder.AT_ONCE", tokens)
    given: list[int] = []
    ours.blocks[0].mlp.register_forward_pre_hook(lambda _, args: given.append(args[0].flatten(0, -2).shape[0]))
    with torch.inference_mode():
        assert relative(ours(pixels), expected) <= 1e-6
    assert max(given) == tokens and sum(given) == 128


def test_without_positions() -> None:
    """The switches of transformers' config that leave positions out work too."""
    ours, reference = encoders(vision_config(64, use_rel_pos=False, use_abs_pos=False))
    pixels = torch.randn(1, 3, 64, 64)
    assert relative(ours(pixels), reference(pixels.double()).last_hidden_state) <= 1e-5


def slow_attention(q: Tensor, k: Tensor, v: Tensor, rel_h: Tensor, rel_w: Tensor, grid: tuple[int, int]) -> Tensor:
    """The definition: softmax of s q.k + q.R_h[row difference] + q.R_w[column difference], one query at a time."""
    height, width = grid
    mixed = torch.zeros_like(v)
    for row in range(height):
        for column in range(width):
            query = q[:, :, row * width + column]
            scores = (k @ query.unsqueeze(-1)).squeeze(-1) * q.shape[-1] ** -0.5
            for other in range(height * width):
                down, right = row - other // width + height - 1, column - other % width + width - 1
                scores[:, :, other] += query @ rel_h[down] + query @ rel_w[right]
            mixed[:, :, row * width + column] = (scores.softmax(-1).unsqueeze(-1) * v).sum(2)
    return mixed


@pytest.mark.parametrize("grid", [(3, 5), (5, 2), (1, 4), (4, 4)])
def test_folded_attention_is_its_definition_on_any_grid(grid: tuple[int, int]) -> None:
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 2, 2, *grid, 4, dtype=torch.float64)
    tables = tuple(torch.randn(2 * side - 1, 4, dtype=torch.float64) for side in grid)
    expected = slow_attention(q.flatten(2, 3), k.flatten(2, 3), v.flatten(2, 3), *tables, grid)
    assert relative(folded_attention(q, k, v, tables), expected) <= 1e-12
    some = folded_attention(q[:, :, :2, :1], k, v, tables)
    assert relative(some, expected.unflatten(2, grid)[:, :, :2, :1].flatten(2, 3)) <= 1e-12


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 5), st.booleans())
def test_windows_are_filled_up_and_cut_off(height: int, width: int, window: int, positions: bool) -> None:
    """Against the original's way: the whole grid filled up first, every token of every window a query."""
    noise = torch.Generator().manual_seed(0)
    draw = partial(torch.randn, generator=noise, dtype=torch.float64)
    qkv, filler = draw(2, height, width, 3 * 8), draw(3 * 8)
    tables = (draw(2 * window - 1, 4), draw(2 * window - 1, 4)) if positions else None
    whole = filled(qkv, (window, window), filler)
    assert whole.shape[1] % window == whole.shape[2] % window == 0
    expected = torch.empty(*whole.shape[:3], 8, dtype=whole.dtype)
    for top, left in product(*(range(0, side, window) for side in whole.shape[1:3])):
        place = (slice(None), slice(top, top + window), slice(left, left + window))
        expected[place] = attention(whole[place], 2, tables)
    found = windowed_attention(qkv, 2, tables, window, filler)
    assert relative(found, expected[:, :height, :width]) <= 1e-12


def test_relative_table_holds_differences() -> None:
    """Entry [i, j] is the offset i - j; a table of another length is stretched first."""
    table = torch.arange(-2.0, 3.0).unsqueeze(1)
    assert relative_table(table, 3)[..., 0].tolist() == [[0, -1, -2], [1, 0, -1], [2, 1, 0]]
    stretched = relative_table(table, 5)
    assert stretched.shape == (5, 5, 1)
    assert torch.allclose(stretched, -stretched.transpose(0, 1), atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 6), st.integers(1, 6))
def test_windows_come_back(height: int, width: int, rows: int, columns: int) -> None:
    """Partition and its inverse leave every token where it was, whatever has to be filled up."""
    tokens = torch.arange(2.0 * height * width * 12).reshape(2, height, width, 12)
    windows = partition(filled(tokens, (rows, columns), torch.zeros(12)), (rows, columns), heads=3, count=2)
    assert all(one.shape[1:] == (3, rows, columns, 2) for one in windows)
    assert torch.equal(torch.cat([unpartition(one, (height, width)) for one in windows], dim=-1), tokens)


def test_an_image_that_is_not_square() -> None:
    """Rows stay rows: the transposed image through transposed weights gives the transposed embedding."""
    ours, _ = encoders(vision_config(64))
    pixels = torch.randn(1, 3, 48, 80)
    with torch.no_grad():
        wide = ours(pixels)
        for layer in ours.blocks:
            attn = layer.attn
            attn.rel_pos_h.data, attn.rel_pos_w.data = attn.rel_pos_w.data.clone(), attn.rel_pos_h.data.clone()
        ours.pos_embed.data = ours.pos_embed.data.transpose(1, 2).contiguous()
        for conv in (ours.patch_embed.projection, ours.neck.conv2):
            conv.weight.data = conv.weight.data.transpose(2, 3).contiguous()
        tall = ours(pixels.transpose(2, 3).contiguous())
    assert wide.shape == (1, 16, 3, 5)
    assert relative(tall.transpose(2, 3), wide) <= 1e-5


def test_positions_keep_their_own_grid() -> None:
    grid = torch.randn(1, 4, 4, 3)
    assert resized_grid(grid, 4, 4) is grid
    assert resized_grid(grid, 6, 2).shape == (1, 6, 2, 3)


def test_bf16_autocast_stays_near() -> None:
    """Half the mantissa costs a percent, not the meaning."""
    ours, _ = encoders(vision_config(128))
    pixels = torch.randn(1, 3, 128, 128)
    with torch.no_grad():
        exact = ours(pixels)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rough = ours(pixels)
    assert relative(rough, exact) < 0.05
