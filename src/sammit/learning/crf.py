"""A conditional random field as a loss: pixels near each other and alike should have like predictions.

Gated CRF loss (Obukhov et al., 1906.04651), with a Potts model for each structure's sigmoid p, I the image, x a pixel's
place, r the radius of a square window:

    mean_i  sum_{j != i, |x_i - x_j| <= r}  K_ij [ p_i (1 - p_j) + (1 - p_i) p_j ]
    K_ij = exp( - |x_i - x_j|^2 / (2 sigma_xy^2) - |I_i - I_j|^2 / (2 sigma_rgb^2) )

Of two softmax classes this is the original; more structures are averaged. Labelled or not, every pixel counts.
"""

from __future__ import annotations

from math import exp

import torch
from torch import Tensor

from sammit.geometry import area


def gated_crf_loss(
    logits: Tensor, images: Tensor, radius: int = 5, sigma_xy: float = 6.0, sigma_rgb: float = 0.1, side: int = 64
) -> Tensor:
    """The loss on a grid that is small enough for its (2 radius + 1)^2 neighbours.

    Each pair of pixels is met once, all pairs of one offset at a time: memory is that of the grid times half the
    window.

    Args:
        logits: (B, C, h, w).
        images: (B, 3, H, W) in [0, 1].
        radius: r, in pixels of the grid.
        sigma_xy: in pixels of the grid. sigma_rgb: in intensities.
        side: largest side of the grid; predictions and images are averaged down to it.
    """
    shape = min(logits.shape[-2], side), min(logits.shape[-1], side)
    p, colours = area(logits.float().sigmoid(), shape), area(images.float(), shape)
    total = p.new_zeros(())
    for down, right in _half_window(radius, shape):
        p_i, p_j = _pairs(p, down, right)
        colour_i, colour_j = _pairs(colours, down, right)
        near = exp(-(down**2 + right**2) / (2 * sigma_xy**2))
        alike = torch.exp(-(colour_i - colour_j).square().sum(1, keepdim=True) / (2 * sigma_rgb**2))
        total = total + near * (alike * (p_i + p_j - 2 * p_i * p_j)).sum()
    return 2 * total / p.numel()  # each pair counts for both its pixels


def _half_window(radius: int, shape: tuple[int, int]) -> list[tuple[int, int]]:
    """Offsets (rows, columns), one of each two that are opposite, that two pixels of the grid can have."""
    rows, columns = min(radius, shape[0] - 1), min(radius, shape[1] - 1)
    below = [(down, right) for down in range(1, rows + 1) for right in range(-columns, columns + 1)]
    return [(0, right) for right in range(1, columns + 1)] + below


def _pairs(values: Tensor, down: int, right: int) -> tuple[Tensor, Tensor]:
    """(B, X, h, w) -> the values at i and at i + (down, right), wherever both are on the grid."""
    height, width = values.shape[-2:]
    first = values[..., : height - down, max(0, -right) : width - max(0, right)]
    second = values[..., down:, max(0, right) : width - max(0, -right)]
    return first, second
