"""Low frequencies of images: what of an amplitude spectrum is told, and how one is put into another; holds no method.

The amplitudes |F| of an image hold how bright, tinted and contrasted it is, its phases arg F hold where things are.
Of |F| only the centred square of half-size b is handled here, (2 b + 1)^2 numbers a channel in the order of frequency
-b ... b along rows and columns.
"""

from __future__ import annotations

import torch
from torch import Tensor


def half_size(band: float, shape: tuple[int, int]) -> int:
    """b = floor(band * min(H, W)), at least 1, and no larger than an image of (H, W) has frequencies."""
    smaller = min(shape)
    return min(max(1, int(band * smaller)), (smaller - 1) // 2)


def low_amplitudes(images: Tensor, half: int) -> Tensor:
    """(B, X, H, W) -> (B, X, 2 half + 1, 2 half + 1), without any phase."""
    rows, columns = _places(images, half)
    amplitudes: Tensor = torch.fft.fft2(images.float()).abs()[..., rows, columns]
    return amplitudes


def restyled(images: Tensor, amplitudes: Tensor, share: Tensor) -> Tensor:
    """The images with low amplitudes (1 - share) of their own + share of the given ones; phases stay.

    Args:
        images: (B, X, H, W) in [0, 1].
        amplitudes: (B, X, 2 half + 1, 2 half + 1), each of one real image, so that the result is real too.
        share: (B, 1, 1, 1) in [0, 1].

    Returns:
        (B, X, H, W), clipped to [0, 1].
    """
    rows, columns = _places(images, amplitudes.shape[-1] // 2)
    spectrum = torch.fft.fft2(images.float())
    low = spectrum[..., rows, columns]
    spectrum[..., rows, columns] = torch.polar((1 - share) * low.abs() + share * amplitudes, low.angle())
    result: Tensor = torch.fft.ifft2(spectrum).real.clamp(0, 1)
    return result


def _places(images: Tensor, half: int) -> tuple[Tensor, Tensor]:
    """Rows (n, 1) and columns (n) of the frequencies -half ... half in an unshifted spectrum."""
    frequencies = torch.arange(-half, half + 1, device=images.device)
    height, width = images.shape[-2:]
    return (frequencies % height)[:, None], frequencies % width
