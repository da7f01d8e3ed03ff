"""A whole image from tiles: nothing lost, nothing shifted, whatever the size."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from learning.conftest import Pointwise
from sammit.config import ModelConfig
from sammit.geometry import View, resize
from sammit.learning.inference import (
    TILES_AT_ONCE,
    _starts,
    segment,
    segment_slices,
    slice_logits,
    slices_at_once,
    tiles_at_once,
    to_tensor,
)
from sammit.models.build import build_model

sides = st.integers(1, 70)
overlaps = st.floats(0, 0.9)


def picture(height: int, width: int, depth: int = 1, seed: int = 0, kind: Any = np.uint8) -> np.ndarray:
    """(D, H, W, 3) over the type's full range."""
    return np.random.default_rng(seed).integers(0, np.iinfo(kind).max, (depth, height, width, 3), kind, endpoint=True)


@given(sides, sides, st.sampled_from([8, 16, 24]), overlaps)
def test_tiles_of_a_pointwise_model_are_the_model(height: int, width: int, size: int, overlap: float) -> None:
    """Larger than a tile, smaller, far smaller, or no multiple of anything."""
    model, image = Pointwise(), to_tensor(picture(height, width)[0])
    found = slice_logits(model, image, View("tile", size, overlap=overlap))
    assert found.shape == (1, 2, height, width)
    assert torch.allclose(found, Pointwise()(image), atol=1e-5)
    assert all(shape[-2:] == (size, size) and shape[0] <= TILES_AT_ONCE for shape in model.calls)


@given(sides, sides, st.floats(0.5, 4), st.sampled_from([0, 16, 40]))
def test_tiles_at_another_scale(height: int, width: int, scale: float, longest: int) -> None:
    """To the model's scale, through the model, and back to the image's own pixels."""
    view = View("tile", 16, scale, longest=longest)
    model, image = Pointwise(), to_tensor(picture(height, width)[0])
    expected = resize(model(resize(image, view.model_shape(height, width))), (height, width))
    assert torch.allclose(slice_logits(model, image, view), expected, atol=1e-4)


@given(sides, sides)
def test_whole_is_one_square(height: int, width: int) -> None:
    model, image = Pointwise(), to_tensor(picture(height, width)[0])
    found = slice_logits(model, image, View("whole", 16))
    assert model.calls == [(1, 3, 16, 16)]
    assert torch.allclose(found, resize(Pointwise()(resize(image, (16, 16))), (height, width)), atol=1e-5)


class Coarse(nn.Module):
    """Logits at half the resolution: the mean of each 2 x 2 pixels' red."""

    def forward(self, images: Tensor) -> Tensor:
        return nn.functional.avg_pool2d(images[:, :1], 2)


@pytest.mark.parametrize("kind", ["tile", "whole"])
def test_coarse_logits_are_not_shifted(kind: Any) -> None:
    """A ramp comes back as that ramp, but for the rim: half a pixel of shift would show as half a grey value."""
    ramp = torch.linspace(0, 1, 48).expand(1, 3, 48, 48)
    found = slice_logits(Coarse(), ramp, View(kind, 16 if kind == "tile" else 48, overlap=0.5))
    assert torch.allclose(found[0, 0, :, 2:-2], ramp[0, 0, :, 2:-2], atol=0.3 / 48)


@given(st.integers(1, 300), st.integers(1, 64), overlaps)
def test_tiles_cover_a_side(extra: int, size: int, overlap: float) -> None:
    """From the first pixel to the last, and neighbours share what was asked for."""
    length = size + extra
    starts = _starts(length, View("tile", size, overlap=overlap))
    assert starts[0] == 0 and starts[-1] == length - size
    gaps = [b - a for a, b in pairwise(starts)]
    assert all(1 <= gap <= max(1, int(size * (1 - overlap))) for gap in gaps)


@pytest.mark.parametrize(
    ("length", "expected"), [(8, [0]), (9, [0, 1]), (14, [0, 6]), (15, [0, 4, 7]), (20, [0, 6, 12])]
)
def test_starts_by_hand(length: int, expected: list[int]) -> None:
    """Tiles of 8 with a quarter shared: steps of at most 6."""
    assert _starts(length, View("tile", 8, overlap=0.25)) == expected


@pytest.mark.parametrize("view", [View("tile", 16), View("tile", 8, scale=1.7), View("whole", 16)])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_a_volume_is_its_slices(view: View, kind: Any) -> None:
    """(D, H, W, C), each slice as if alone; the streamed slices are the same."""
    volume = picture(21, 30, depth=3, kind=kind)
    found = segment(Pointwise(), volume, view)
    assert found.shape == (3, 21, 30, 2) and found.dtype == np.bool_
    assert found.any() and not found.all()
    for index, mask in enumerate(segment_slices(Pointwise(), volume, view)):
        assert np.array_equal(mask, found[index])
        assert np.array_equal(segment(Pointwise(), volume[index : index + 1], view)[0], mask)


@pytest.mark.parametrize("view", [View("whole", 16), View("tile", 16), View("tile", 8)])
def test_a_long_volume_is_never_seen_whole(view: View) -> None:
    """Slices are made as they are asked for, a bounded number of tiles at once."""
    model = Pointwise()
    slices = segment_slices(model, picture(16, 16, depth=100), view)
    next(slices)
    assert len(model.calls) == 1
    assert 1 < model.calls[0][0] <= TILES_AT_ONCE
    assert len(list(slices)) == 99
    assert all(call[0] <= TILES_AT_ONCE for call in model.calls)


def test_how_many_at_once_by_hand() -> None:
    """As many pixels as 16 tiles of 256 have, and never more than 16 native slices of 512."""
    assert [tiles_at_once(size) for size in (64, 256, 512, 1024, 2048)] == [16, 16, 4, 1, 1]
    assert slices_at_once(512, 512, View("whole", 128)) == 16
    assert slices_at_once(2048, 2048, View("whole", 128)) == 1
    assert slices_at_once(512, 512, View("whole", 1024)) == 1
    assert slices_at_once(200, 200, View("tile", 128, overlap=0.25)) == 4  # 2 x 2 tiles each
    assert slices_at_once(100, 100, View("tile", 128)) == 16


@pytest.mark.parametrize("view", [View("whole", 64), View("tile", 48)])
def test_slices_seen_together_are_as_if_alone(view: View) -> None:
    """With a network, whose sums a batch may round otherwise: logits agree, masks are the same."""
    network = build_model(ModelConfig(weights="random"), view.size, 2, 0).eval()
    volume = picture(60, 80, depth=6)
    pieces = [to_tensor(piece) for piece in volume]
    together, alone = slice_logits(network, torch.cat(pieces), view), [slice_logits(network, p, view) for p in pieces]
    assert torch.allclose(together, torch.cat(alone), atol=1e-5)
    apart = np.concatenate([segment(network, volume[i : i + 1], view) for i in range(len(volume))])
    assert apart.any() and not apart.all()
    assert np.array_equal(segment(network, volume, view), apart)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_full_range_is_one(kind: Any) -> None:
    top = np.iinfo(kind).max
    piece = np.array([[[0, top, top // 2 + 1]]], kind)
    assert to_tensor(piece).flatten().tolist() == pytest.approx([0, 1, 0.5], abs=1 / 200)
    assert to_tensor(np.zeros((4, 5, 3), kind)).shape == (1, 3, 4, 5)


@pytest.mark.parametrize("training", [True, False])
def test_the_models_mode_comes_back(training: bool) -> None:
    """Also where the model fails half-way."""

    class Failing(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            assert not self.training
            raise RuntimeError("out of memory")

    for model in (Pointwise(), Failing()):
        model.train(training)
        try:
            segment(model, picture(8, 8), View("whole", 8))
        except RuntimeError as error:
            assert str(error) == "out of memory"
        assert model.training == training
