"""Strong changes of intensity and colour, pixel by pixel where they are: for views of one image that should agree."""

from __future__ import annotations

from math import exp, log
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

if TYPE_CHECKING:
    import numpy as np

CONTRAST = 2.0  # largest factor about the mean, and its inverse the smallest
GAIN = 1.25  # likewise, of each colour
OFFSET = 1.0  # largest, in deviations of the image: a fixed step would black out dark images
BLUR = 2.0  # largest deviation of the Gaussian, pixels
REACH = 3  # pixels of the Gaussian on each side


def strongly_changed(images: Tensor, rng: np.random.Generator) -> Tensor:
    """(B, 3, H, W) in [0, 1] -> the same with contrast, brightness, colours and sharpness drawn for each image.

    Grey images, whose channels are equal, stay grey.
    """
    return torch.stack([_changed(image, rng.random(6)) for image in images])


def _changed(image: Tensor, u: np.ndarray) -> Tensor:
    """(3, H, W) under six numbers in [0, 1)."""
    colours = u[2:3] if bool((image[0] == image[1]).all() and (image[0] == image[2]).all()) else u[2:5]
    gain = torch.tensor([_factor(one, GAIN) for one in colours]).to(image).reshape(-1, 1, 1)
    offset = OFFSET * (2 * float(u[1]) - 1) * image.std()
    changed = image.mean() + _factor(u[0], CONTRAST) * (image - image.mean()) + offset
    return _blurred((changed * gain).clamp(0, 1), BLUR * float(u[5]))


def _factor(u: float, largest: float) -> float:
    """1 / largest at 0, 1 at one half, largest at 1."""
    return exp((2 * float(u) - 1) * log(largest))


def _blurred(image: Tensor, deviation: float) -> Tensor:
    """(3, H, W) under a Gaussian, the border repeated; a deviation far below a pixel changes nothing."""
    away = torch.arange(-REACH, REACH + 1, device=image.device, dtype=image.dtype)
    line = torch.exp(-(away**2) / (2 * max(deviation, 1e-3) ** 2))
    line = (line / line.sum())[None, None]
    padded = pad(image[:, None], (REACH,) * 4, mode="replicate")
    return conv2d(conv2d(padded, line[:, :, None]), line[..., None])[:, 0]
