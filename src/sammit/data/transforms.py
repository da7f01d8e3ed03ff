"""Augmentation of a whole batch: one affine resampling, then intensities.

`Draw` holds one item's random numbers, always drawn in the same order and number, so that a tile's augmentation is a
function of its key alone. Outside the image pixels are mirrored and `valid` is 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, sqrt
from typing import TYPE_CHECKING

from sammit.vocabulary import Batch

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

ZOOM = 1.25  # tiles show 1/ZOOM to ZOOM times their side


@dataclass(frozen=True)
class Draw:
    """One item's random numbers.

    Attributes:
        matrix: (2, 2) of the affine in (x, y), model pixels to frame pixels.
        gain: (3,) factor of each channel.
        offset: what is added to every channel, in deviations of the tile: a fixed step would black out dark tiles.
        contrast: factor about the item's mean.
        gamma: exponent, 1 for most.
        blur: deviation of a 3x3 Gaussian in pixels, 0 for most.
        noise: deviation of white noise, in deviations of the tile, 0 for most.
        seed: of the noise.
    """

    matrix: np.ndarray
    gain: np.ndarray
    offset: float
    contrast: float
    gamma: float
    blur: float
    noise: float
    seed: int


def draw_augmentation(rng: np.random.Generator, grey: bool) -> Draw:
    """Flips, turn, zoom; gain, of each channel (stain) unless grey; offset, contrast; at times gamma, blur, noise."""
    import numpy as np

    u = rng.random(17)
    angle, zoom = 2 * np.pi * u[0], ZOOM ** (2 * u[1] - 1)
    flip = np.diag([1.0 if u[2] < 0.5 else -1.0, 1.0 if u[3] < 0.5 else -1.0])
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return Draw(
        matrix=zoom * turn @ flip,
        gain=np.exp(0.2 * (2 * u[16] - 1)) * (np.exp(0.1 * (2 * u[4:7] - 1)) if not grey else np.ones(3)),
        offset=0.3 * (2 * u[7] - 1),
        contrast=float(np.exp(0.25 * (2 * u[8] - 1))),
        gamma=float(np.exp(0.4 * (2 * u[9] - 1))) if u[10] < 0.3 else 1.0,
        blur=0.5 + 0.7 * u[11] if u[12] < 0.1 else 0.0,
        noise=0.2 * u[13] if u[14] < 0.15 else 0.0,
        seed=int(u[15] * 2**53),
    )


def margin(size: int) -> int:
    """Frame pixels that a turned, zoomed tile reaches beyond its own border on each side."""
    return ceil(size * (ZOOM * sqrt(2) - 1) / 2) + 1


def augmented(pixels: Tensor, draws: list[Draw], size: int) -> Batch:
    """A batch from crops that are larger than the tiles by `margin` on each side.

    Args:
        pixels: (B, 3 + C + 1, S, S) float32: image in [0, 1], truth, validity; S = size + 2 * margin(size).
        draws: one for each item.
        size: side of the tiles.
    """
    warped = _warped(pixels, draws, size)
    images = _recoloured(warped[:, :3], draws)
    return Batch(images, (warped[:, 3:-1] > 0.5).float(), (warped[:, -1:] > 0.5).float())


def _warped(pixels: Tensor, draws: list[Draw], size: int) -> Tensor:
    """(B, X, S, S) -> (B, X, size, size), bilinear, turned and zoomed about the middle."""
    import numpy as np
    import torch
    from torch.nn.functional import affine_grid, grid_sample

    theta = torch.zeros(len(draws), 2, 3)
    theta[:, :, :2] = torch.from_numpy(np.stack([d.matrix for d in draws])) * (size / pixels.shape[-1])
    grid = affine_grid(theta, [len(draws), 1, size, size], align_corners=False)
    return grid_sample(pixels, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _recoloured(images: Tensor, draws: list[Draw]) -> Tensor:
    """(B, 3, H, W) in [0, 1] -> the same with each item's intensities changed."""
    import numpy as np
    import torch

    gain = torch.from_numpy(np.stack([d.gain * d.contrast for d in draws]).astype(np.float32))[..., None, None]
    contrast = torch.tensor([d.contrast for d in draws], dtype=torch.float32)[:, None, None, None]
    offset = torch.tensor([d.offset for d in draws], dtype=torch.float32)[:, None, None, None]
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    spread = (images[:, :, ::4, ::4] - mean).square().mean(dim=(1, 2, 3), keepdim=True).sqrt()  # every 4th will do
    images = torch.addcmul(mean * (1 - contrast) + offset * spread, images, gain).clamp_(0, 1)
    for index, draw in enumerate(draws):
        if draw.gamma != 1:
            images[index].pow_(draw.gamma)
        if draw.blur:
            images[index] = _blurred(images[index], draw.blur)
        if draw.noise:
            images[index] = (images[index] + spread[index] * _noise(images[index], draw)).clamp_(0, 1)
    return images


def _blurred(image: Tensor, deviation: float) -> Tensor:
    """(3, H, W) -> the same under a 3x3 Gaussian."""
    import torch
    from torch.nn.functional import conv2d, pad

    side = float(torch.exp(torch.tensor(-0.5 / deviation**2)))
    line = torch.tensor([side, 1.0, side]) / (1 + 2 * side)
    kernel = torch.outer(line, line)[None, None]
    return conv2d(pad(image[:, None], (1, 1, 1, 1), mode="replicate"), kernel)[:, 0]


def _noise(image: Tensor, draw: Draw) -> Tensor:
    import numpy as np
    import torch

    noise = np.random.Generator(np.random.PCG64(draw.seed)).standard_normal(tuple(image.shape), dtype=np.float32)
    return torch.from_numpy(noise) * draw.noise
