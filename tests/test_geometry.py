"""The two frames: sizes by hand, and resampling that keeps what it must."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sammit.geometry import View, resize


@pytest.mark.parametrize(
    ("view", "native", "expected"),
    [
        (View("whole", 64), (480, 640), (64, 64)),
        (View("whole", 64, longest=32), (480, 640), (64, 64)),
        (View("tile", 64), (480, 640), (480, 640)),
        (View("tile", 64, scale=2.0), (480, 641), (240, 320)),
        (View("tile", 64, scale=0.5), (10, 20), (20, 40)),
        (View("tile", 64, scale=64.0), (10, 200), (1, 3)),
        (View("tile", 64, scale=3.0, longest=320), (480, 640), (240, 320)),
        (View("tile", 64, longest=1280), (480, 640), (960, 1280)),
        (View("tile", 64, longest=64), (6400, 10), (64, 1)),
    ],
)
def test_model_shape_by_hand(view: View, native: tuple[int, int], expected: tuple[int, int]) -> None:
    """Whole: a square. Tiles: by scale, or the longer side to `longest`; never below one pixel."""
    assert view.model_shape(*native) == expected


sides = st.integers(1, 40)


@given(sides, sides, sides, sides, st.floats(-5, 5))
def test_a_constant_stays_a_constant(height: int, width: int, rows: int, columns: int, value: float) -> None:
    found = resize(torch.full((1, 2, height, width), value), (rows, columns))
    assert found.shape == (1, 2, rows, columns)
    assert torch.allclose(found, torch.full_like(found, value), atol=1e-5)


@given(sides, sides)
def test_the_same_size_is_the_same_tensor(height: int, width: int) -> None:
    image = torch.rand(1, 1, height, width)
    assert resize(image, (height, width)) is image


@pytest.mark.parametrize("kind", ["tile", "whole"])
def test_there_and_back(kind: str) -> None:
    """Pixel centres align: a horizontal ramp is the same ramp after a round trip, but for the rim."""
    view = View(kind, 16, scale=2.0)  # type: ignore[arg-type]
    ramp = torch.arange(32.0).expand(1, 1, 32, 32)
    back = view.to_native(view.to_model(ramp), (32, 32))
    assert torch.allclose(back[..., 4:-4], ramp[..., 4:-4], atol=1e-4)


def test_a_mirror_image_is_resized_to_the_mirror() -> None:
    """No half-pixel shift to either side, growing or shrinking."""
    image = torch.rand(1, 3, 20, 30, generator=torch.Generator().manual_seed(0))
    for shape in ((7, 11), (33, 50)):
        assert torch.allclose(resize(image.flip(-1), shape), resize(image, shape).flip(-1), atol=1e-5)
        assert torch.allclose(resize(image.flip(-2), shape), resize(image, shape).flip(-2), atol=1e-5)
