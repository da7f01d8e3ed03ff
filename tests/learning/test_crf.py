"""The gated CRF loss against a double loop over all pairs of pixels."""

from __future__ import annotations

from math import exp

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sammit.learning.crf import gated_crf_loss


def by_hand(p: torch.Tensor, images: torch.Tensor, radius: int, sigma_xy: float, sigma_rgb: float) -> float:
    """The formula, pixel by pixel."""
    batch, structures, height, width = p.shape
    total = 0.0
    for b in range(batch):
        for y in range(height):
            for x in range(width):
                for v in range(max(0, y - radius), min(height, y + radius + 1)):
                    for u in range(max(0, x - radius), min(width, x + radius + 1)):
                        if (v, u) == (y, x):
                            continue
                        colour = float((images[b, :, y, x] - images[b, :, v, u]).square().sum())
                        away = (y - v) ** 2 + (x - u) ** 2
                        kernel = exp(-away / (2 * sigma_xy**2) - colour / (2 * sigma_rgb**2))
                        for c in range(structures):
                            p_i, p_j = float(p[b, c, y, x]), float(p[b, c, v, u])
                            total += kernel * (p_i * (1 - p_j) + (1 - p_i) * p_j)
    return total / p.numel()


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 99), st.integers(1, 6), st.integers(1, 6), st.integers(1, 7), st.floats(0.05, 1))
def test_it_is_the_double_loop(seed: int, height: int, width: int, radius: int, sigma_rgb: float) -> None:
    draw = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(2, 2, height, width, generator=draw)
    images = torch.rand(2, 3, height, width, generator=draw)
    found = gated_crf_loss(logits, images, radius, 2.0, sigma_rgb)
    assert float(found) == pytest.approx(by_hand(logits.sigmoid(), images, radius, 2.0, sigma_rgb), rel=1e-4, abs=1e-6)


def test_two_pixels() -> None:
    """Equal colours at a distance of one: exp(-1/2) (p q' + p' q), for each of both."""
    logits = torch.logit(torch.tensor([[[[0.9, 0.2]]]]))
    found = gated_crf_loss(logits, torch.full((1, 3, 1, 2), 0.3), radius=1, sigma_xy=1.0)
    assert float(found) == pytest.approx(exp(-0.5) * (0.9 * 0.8 + 0.1 * 0.2))


def test_a_grid_that_is_too_large_is_averaged_down() -> None:
    """Blocks of equal pixels: the loss on the small grid is that of the blocks."""
    draw = torch.Generator().manual_seed(1)
    logits, images = torch.randn(1, 1, 4, 4, generator=draw), torch.rand(1, 3, 4, 4, generator=draw)
    large = [values.repeat_interleave(3, -1).repeat_interleave(3, -2) for values in (logits, images)]
    assert torch.allclose(gated_crf_loss(*large, side=4), gated_crf_loss(logits, images))
    assert not torch.allclose(gated_crf_loss(*large), gated_crf_loss(logits, images))


def test_its_gradient_joins_like_pixels() -> None:
    """An undecided pixel goes with the neighbour of its own colour, not with the other one."""
    images = torch.zeros(1, 3, 1, 3)
    images[..., 2] = 1.0
    logits = torch.tensor([[[[3.0, 0.0, -9.0]]]], requires_grad=True)
    gated_crf_loss(logits, images).backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None and float(logits.grad[0, 0, 0, 1]) < -0.01
