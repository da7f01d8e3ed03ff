"""A case of Sammit's as nnU-Net wants it: channels first, intensities in [0, 255], one number for each pixel's labels.

Which intensities a volume's unit becomes is Sammit's choice (`data.intensity`, `data.window`), one for all methods;
nnU-Net normalises what it is given: colours to [0, 1], all else to mean 0 and deviation 1.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Spacing = tuple[float, float, float]


def is_grey(image: NDArray[np.integer]) -> bool:
    """Whether all three channels of (D, H, W, 3) are the same."""
    return image.strides[-1] == 0 or all(bool((image[..., 0] == image[..., c]).all()) for c in (1, 2))


def as_channels(image: NDArray[np.integer], channels: int) -> NDArray[np.float32]:
    """(D, H, W, 3) of an unsigned integer type -> (channels, D, H, W) in [0, 255].

    With one channel a colour image is averaged over its three.
    """
    scale = np.float32(255 / np.iinfo(image.dtype).max)
    if channels == 3:
        return np.ascontiguousarray(np.moveaxis(image, -1, 0), np.float32) * scale
    plane = image[..., 0] if is_grey(image) else image.mean(-1, dtype=np.float32)
    return plane[None].astype(np.float32) * scale


def spacing_of(depth: int, spacing: Spacing | None) -> list[float]:
    """(slice, row, column) as nnU-Net wants it: an image is a volume of one slice, far from any other.

    Without a known spacing, a pixel is the unit.
    """
    known = spacing or (1.0, 1.0, 1.0)
    return [999.0 * max(known[1:]), *known[1:]] if depth == 1 else list(known)


def label_map(truth: NDArray[np.bool_], valid: NDArray[np.bool_] | None, labels: dict[str, Any]) -> NDArray[np.int16]:
    """(D, H, W, C) and (D, H, W) -> (1, D, H, W): for each pixel the number that `labels` has for its structures."""
    regions = any(isinstance(number, list) for number in labels.values())
    found = np.zeros(truth.shape[:-1], np.int16)
    for index in range(truth.shape[-1]):
        structure = truth[..., index]
        found[structure] = (found[structure] | 1 << index) if regions else index + 1
    if valid is not None and "ignore" in labels:
        found[~valid] = labels["ignore"]
    return found[None]
