"""Images as another scanner or modality might show them, drawn anew for every tile: for sites of one modality each.

Nagaraju et al. (2602.20773, 2508.05137) let sites that hold one modality each train one model by FedAvg, and set four
ways beside each other. Three of them change images and are here; the fourth, normalisation of its own for each domain,
is of the network: the method `norm_local`. GIN is as in its published code; of the other two the formulas were not at
hand, so they are in the style of what they are named after.

With x an image brought to mean 0 and deviation 1, f random and a ~ U(0, 1), drawn for each image and step:

    y = a f(x) + (1 - a) x,     x' = y |x| / |y|,     back to the image's own mean and deviation, clipped to [0, 1]

    spatial     f: one convolution, side 1, 3, 5 or 7, N(0, 1) / sqrt(inputs)        after Xu et al. 2021 (2007.13003)
    gin         f: four convolutions of side 1 or 3, two channels between, shifts,   Ouyang et al. 2022 (2111.12525)
                leaky rectifiers between
    frequency   x' from the spectrum |F| exp(0.5 n), phases as they are; n ~ N(0, 1) for each frequency of the lowest
                tenth, n(-w) = n(w); one n for all channels                          after Xu et al. 2021 (2105.11120)

Structures stay where they are: no f moves anything by more than its kernel's half side. Grey images stay grey.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from math import sqrt
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import conv2d, leaky_relu, pad

if TYPE_CHECKING:
    import numpy as np

BAND = 0.1  # share of the shorter side's frequencies that "frequency" changes
SPREAD = 0.5  # deviation of the logarithm of their factors
LAYERS, HIDDEN = 4, 2  # of "gin"
FLAT = 1e-4  # an image that deviates by less has nothing to change


def changed(images: Tensor, kind: str, rngs: list[np.random.Generator]) -> Tensor:
    """(B, 3, H, W) in [0, 1] -> the same, each image changed with numbers of its own generator.

    Args:
        images: a batch.
        kind: "spatial", "frequency" or "gin".
        rngs: one for each image.
    """
    change = KINDS[kind]
    return torch.stack([_changed(image, change, rng) for image, rng in zip(images, rngs, strict=True)])


def _changed(image: Tensor, change: Change, rng: np.random.Generator) -> Tensor:
    """(3, H, W) -> (3, H, W); where all channels are equal, they stay so."""
    grey = bool((image[0] == image[1]).all() and (image[0] == image[2]).all())
    seen = image[:1] if grey else image
    mean, spread = seen.mean(), seen.std()
    if float(spread) < FLAT:
        return image
    result = (change((seen - mean) / spread, rng) * spread + mean).clamp(0, 1)
    return result.expand_as(image) if grey else result


def _spatial(image: Tensor, rng: np.random.Generator) -> Tensor:
    """(X, H, W) -> the same under one random convolution, blended."""
    side = (1, 3, 5, 7)[rng.integers(4)]
    share = float(rng.random())
    weight = _normal(rng, len(image), len(image), side, side) / sqrt(len(image) * side**2)
    return _blended(image, _convolved(image, weight), share)


def _gin(image: Tensor, rng: np.random.Generator) -> Tensor:
    """(X, H, W) -> the same through a random network of a few channels, blended."""
    share = float(rng.random())
    widths = [len(image), *[HIDDEN] * (LAYERS - 1), len(image)]
    values = image
    for layer, (before, after) in enumerate(pairwise(widths)):
        side = (1, 3)[rng.integers(2)]
        values = _convolved(values, _normal(rng, after, before, side, side)) + _normal(rng, after, 1, 1)
        if layer < LAYERS - 1:
            values = leaky_relu(values)
    return _blended(image, values, share)


def _frequency(image: Tensor, rng: np.random.Generator) -> Tensor:
    """(X, H, W) -> the same with its low frequencies' amplitudes scaled at random, phases kept."""
    height, width = image.shape[-2:]
    half = min(max(1, int(BAND * min(height, width))), (min(height, width) - 1) // 2)
    noise = _normal(rng, 2 * half + 1, 2 * half + 1)
    even = (noise + noise.flip(0, 1)) / sqrt(2)  # the same for w and -w: the image stays real
    even[half, half] = 0  # the mean is not a matter of looks here: it is put back anyhow
    places = torch.arange(-half, half + 1)
    rows, columns = (places % height)[:, None], places % width
    spectrum = torch.fft.fft2(image)
    spectrum[..., rows, columns] *= torch.exp(SPREAD * even)
    result: Tensor = torch.fft.ifft2(spectrum).real
    return result


Change = Callable[[Tensor, "np.random.Generator"], Tensor]

KINDS: dict[str, Change] = {"spatial": _spatial, "frequency": _frequency, "gin": _gin}


def _blended(image: Tensor, other: Tensor, share: float) -> Tensor:
    """share * other + (1 - share) * image, brought to the image's own norm."""
    mixed = share * other + (1 - share) * image
    scale: Tensor = image.norm() / mixed.norm().clamp_min(1e-5)
    return mixed * scale


def _convolved(image: Tensor, weight: Tensor) -> Tensor:
    """(X, H, W) under (Y, X, s, s) -> (Y, H, W), the border repeated."""
    rim = weight.shape[-1] // 2
    return conv2d(pad(image[None], (rim,) * 4, mode="replicate"), weight)[0]


def _normal(rng: np.random.Generator, *shape: int) -> Tensor:
    return torch.from_numpy(rng.standard_normal(shape, dtype="float32"))
