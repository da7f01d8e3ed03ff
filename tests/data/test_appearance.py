"""Another modality's look: the formulas, by an independent reference where there is one, and what must stay."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from sammit.data import appearance
from sammit.data.appearance import KINDS, changed


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))


def pictures(count: int = 2, side: int = 24) -> Tensor:
    """(B, 3, H, W) in [0.3, 0.7], so that nothing is clipped by a mild change."""
    return 0.3 + 0.4 * torch.rand(count, 3, side, side + 4, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("kind", KINDS)
def test_each_image_is_changed_by_its_own_generator(kind: str) -> None:
    """Equal generators give equal images, whatever is beside them; others give others; all within [0, 1]."""
    images = pictures()
    both = changed(images, kind, [rng(1), rng(2)])
    assert torch.equal(changed(images[1:], kind, [rng(2)]), both[1:])
    assert not torch.equal(changed(images[1:], kind, [rng(3)]), both[1:])
    assert not torch.equal(both, images)
    assert both.shape == images.shape and float(both.min()) >= 0 and float(both.max()) <= 1


@pytest.mark.parametrize("kind", KINDS)
def test_grey_stays_grey_and_flat_stays_flat(kind: str) -> None:
    grey = pictures(1)[:, :1].expand(1, 3, 24, 28)
    result = changed(grey, kind, [rng()])
    assert torch.equal(result[:, :1].expand_as(result), result)
    flat = torch.full((1, 3, 8, 8), 0.4)
    assert torch.equal(changed(flat, kind, [rng()]), flat)


def by_hand(image: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """(X, H, W) under (Y, X, s, s), pixel by pixel, the border repeated."""
    rim = weight.shape[-1] // 2
    padded = np.pad(image, ((0, 0), (rim, rim), (rim, rim)), mode="edge")
    result = np.zeros((len(weight), *image.shape[1:]))
    for y in range(image.shape[1]):
        for x in range(image.shape[2]):
            window = padded[:, y : y + 2 * rim + 1, x : x + 2 * rim + 1]
            result[:, y, x] = (weight * window).sum((1, 2, 3))
    return result


def test_spatial_is_one_random_convolution_blended() -> None:
    """Against the equation, from the same draws: side, share, kernel."""
    image = torch.randn(3, 7, 6, generator=torch.Generator().manual_seed(0))
    for seed in range(4):
        draws = rng(seed)
        side, share = (1, 3, 5, 7)[draws.integers(4)], draws.random()
        weight = draws.standard_normal((3, 3, side, side), dtype="float32") / np.sqrt(3 * side**2)
        mixed = share * by_hand(image.numpy(), weight) + (1 - share) * image.numpy()
        expected = mixed * np.linalg.norm(image) / np.linalg.norm(mixed)
        assert np.allclose(KINDS["spatial"](image, rng(seed)).numpy(), expected, atol=1e-5)


def test_gin_is_four_random_layers_blended() -> None:
    """Against the equations: 3 -> 2 -> 2 -> 2 -> 3 channels, shifts, leaky rectifiers between, the image's norm."""
    image = torch.randn(3, 6, 7, generator=torch.Generator().manual_seed(0))
    for seed in range(4):
        draws = rng(seed)
        share, values = draws.random(), image.numpy().astype(float)
        for layer, (before, after) in enumerate(((3, 2), (2, 2), (2, 2), (2, 3))):
            side = (1, 3)[draws.integers(2)]
            weight = draws.standard_normal((after, before, side, side), dtype="float32")
            values = by_hand(values, weight) + draws.standard_normal((after, 1, 1), dtype="float32")
            if layer < 3:
                values = np.where(values > 0, values, 0.01 * values)
        mixed = share * values + (1 - share) * image.numpy()
        expected = mixed * np.linalg.norm(image) / np.linalg.norm(mixed)
        assert np.allclose(KINDS["gin"](image, rng(seed)).numpy(), expected, atol=1e-4)


@pytest.mark.parametrize("shape", [(16, 16), (21, 30), (5, 4)])
def test_frequency_keeps_phases_and_high_frequencies(shape: tuple[int, int]) -> None:
    """The spectrum is scaled by positive numbers, at the lowest tenth alone, and the result is a real image."""
    image = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0))
    before, after = torch.fft.fft2(image), torch.fft.fft2(KINDS["frequency"](image, rng()))
    factor = after / before
    assert float(factor.imag.abs().max()) < 1e-3 and float(factor.real.min()) > 0
    half = max(1, int(appearance.BAND * min(shape)))
    high = torch.ones(shape, dtype=torch.bool)
    places = torch.arange(-half, half + 1)
    high[(places % shape[0])[:, None], places % shape[1]] = False
    assert torch.allclose(factor.real[:, high], torch.ones(()), atol=1e-3)
    assert float((factor.real[:, ~high] - 1).abs().max()) > 0.05
    assert torch.allclose(factor.real[0], factor.real[1], atol=1e-3)  # one factor for all channels: no new colours


@pytest.mark.parametrize("kind", ["spatial", "gin"])
def test_structures_stay_in_place(kind: str) -> None:
    """A square that is brighter than its ground has its border where it was: inside and outside stay uniform."""
    image = torch.full((1, 3, 32, 32), 0.3)
    image[..., 10:22, 10:22] = 0.6
    for seed in range(8):
        result = changed(image, kind, [rng(seed)])
        inside, outside = result[..., 14:18, 14:18], result[..., :5, :5]
        assert float(inside.std(dim=(-2, -1)).max()) < 1e-5 and float(outside.std(dim=(-2, -1)).max()) < 1e-5
