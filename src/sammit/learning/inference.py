"""A model over a whole image or volume: slices one after another, each by stitched tiles or resized whole."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sammit.geometry import View, resize

TILES_AT_ONCE = 16

Spacing = tuple[float, float, float]


@runtime_checkable
class WholeCase(Protocol):
    """A model that looks at a whole case by itself, in its own way, and needs no view (nnU-Net)."""

    def segment_case(self, image: NDArray[np.integer], spacing: Spacing | None) -> NDArray[np.bool_]:
        """(D, H, W, 3) of an unsigned integer type, spacing in mm -> (D, H, W, C)."""
        ...


def segment(
    model: nn.Module, image: NDArray[np.integer], view: View, device: str = "cpu", spacing: Spacing | None = None
) -> NDArray[np.bool_]:
    """Masks of a case in its native geometry, a slice at a time.

    Args:
        model: (B, 3, size, size) in [0, 1] -> (B, C, h, w) logits; or a `WholeCase`.
        image: (D, H, W, 3) of an unsigned integer type, full range.
        view: how the model looks at a slice.
        device: where the model is.
        spacing: (slice, row, column) in mm, None where it is not known; a `WholeCase` may use it.

    Returns:
        (D, H, W, C) bool: sigmoid above 0.5, that is a logit above 0.
    """
    return np.stack(list(segment_slices(model, image, view, device, spacing)))


def segment_slices(
    model: nn.Module, image: NDArray[np.integer], view: View, device: str = "cpu", spacing: Spacing | None = None
) -> Iterator[NDArray[np.bool_]]:
    """The masks of `segment`, one (H, W, C) slice after another, so that a long volume never sits whole in memory."""
    if isinstance(model, WholeCase):
        yield from model.segment_case(image, spacing)
        return
    training = model.training
    model.eval()
    try:
        for piece in image:
            logits = slice_logits(model, to_tensor(piece).to(device), view)
            yield (logits[0] > 0).permute(1, 2, 0).cpu().numpy()
    finally:
        model.train(training)


def to_tensor(piece: NDArray[np.integer]) -> Tensor:
    """(H, W, 3) unsigned integers -> (1, 3, H, W) float32 in [0, 1]."""
    scaled = np.ascontiguousarray(piece, dtype=np.float32) / np.iinfo(piece.dtype).max
    return torch.from_numpy(scaled).permute(2, 0, 1).unsqueeze(0)


@torch.inference_mode()
def slice_logits(model: nn.Module, image: Tensor, view: View) -> Tensor:
    """(1, 3, H, W) in [0, 1] -> (1, C, H, W) logits at native resolution."""
    native = (image.shape[-2], image.shape[-1])
    seen = view.to_model(image)
    logits = model(seen) if view.kind == "whole" else _stitched(model, seen, view)
    return view.to_native(logits, native)


def _stitched(model: nn.Module, image: Tensor, view: View) -> Tensor:
    """(1, 3, h, w) -> (1, C, h, w): overlapping tiles, averaged with weights that fall towards a tile's edge."""
    size, (height, width) = view.size, image.shape[-2:]
    image = _at_least(image, size)
    corners = [(y, x) for y in _starts(image.shape[-2], view) for x in _starts(image.shape[-1], view)]
    weight = _window(size).to(image.device)
    total = image.new_zeros(1, 1, *image.shape[-2:])
    summed: Tensor | None = None
    for first in range(0, len(corners), TILES_AT_ONCE):
        some = corners[first : first + TILES_AT_ONCE]
        tiles = torch.cat([image[..., y : y + size, x : x + size] for y, x in some])
        logits = resize(model(tiles).float(), (size, size))
        if summed is None:
            summed = image.new_zeros(1, logits.shape[1], *image.shape[-2:])
        for (y, x), tile in zip(some, logits, strict=True):
            summed[0, :, y : y + size, x : x + size] += tile * weight
            total[0, 0, y : y + size, x : x + size] += weight
    assert summed is not None  # there is always at least one tile
    return (summed / total)[..., :height, :width]


def _at_least(image: Tensor, size: int) -> Tensor:
    """(1, 3, h, w) with both sides at least `size`: mirrored at the lower and right edge, as training tiles are."""
    while (missing := [max(0, size - side) for side in image.shape[-2:]]) != [0, 0]:
        rows, columns = (min(m, side) for m, side in zip(missing, image.shape[-2:], strict=True))
        image = torch.cat([image, image.flip(-2)[..., :rows, :]], dim=-2)
        image = torch.cat([image, image.flip(-1)[..., :columns]], dim=-1)
    return image


def _starts(length: int, view: View) -> list[int]:
    """Where tiles start along a side of `length` >= view.size: evenly spaced, at least the overlap shared."""
    step = max(1, int(view.size * (1 - view.overlap)))
    count = 1 + -(-(length - view.size) // step)
    return [round(i * (length - view.size) / max(1, count - 1)) for i in range(count)]


def _window(size: int) -> Tensor:
    """(size, size) weights, 1 in the middle and small, not zero, at the edge."""
    ramp = 1 - (torch.linspace(-1, 1, size + 2)[1:-1].abs())
    ramp = ramp.clamp_min(0.02)
    return ramp[:, None] * ramp[None, :]
