"""A model over a whole image or volume: a few slices after another, each by stitched tiles or resized whole."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sammit.geometry import View, resize

TILES_AT_ONCE = 16
"""At most, and of small tiles; as many large ones as have the same pixels."""

_TILE_PIXELS = TILES_AT_ONCE * 256**2
_NATIVE_PIXELS = 16 * 512**2

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
    """Masks of a case in its native geometry, a few slices at a time.

    Args:
        model: (B, 3, size, size) in [0, 1] -> (B, C, h, w) logits; or a `WholeCase`.
        image: (D, H, W, 3) of an unsigned integer type, full range.
        view: how the model looks at a slice.
        device: where the model is.
        spacing: (slice, row, column) in mm, None where it is not known; a `WholeCase` may use it.

    Returns:
        (D, H, W, C) bool: sigmoid above 0.5, that is a logit above 0.
    """
    slices = segment_slices(model, image, view, device, spacing)
    first = next(slices)
    found = np.empty((len(image), *first.shape), np.bool_)
    found[0] = first
    for place, masks in enumerate(slices, start=1):
        found[place] = masks
    return found


def segment_slices(
    model: nn.Module, image: NDArray[np.integer], view: View, device: str = "cpu", spacing: Spacing | None = None
) -> Iterator[NDArray[np.bool_]]:
    """The masks of `segment`, one (H, W, C) slice after another.

    A long volume never sits whole in memory at the model's size: slices are seen together up to a bound.
    """
    if isinstance(model, WholeCase):
        yield from model.segment_case(image, spacing)
        return
    training = model.training
    model.eval()
    try:
        many = slices_at_once(image.shape[1], image.shape[2], view)
        for first in range(0, len(image), many):
            pieces = torch.cat([to_tensor(piece) for piece in image[first : first + many]])
            logits = slice_logits(model, pieces.to(device), view)
            yield from (logits > 0).permute(0, 2, 3, 1).cpu().numpy()
    finally:
        model.train(training)


def to_tensor(piece: NDArray[np.integer]) -> Tensor:
    """(H, W, 3) unsigned integers -> (1, 3, H, W) float32 in [0, 1]."""
    scaled = np.ascontiguousarray(piece, dtype=np.float32) / np.iinfo(piece.dtype).max
    return torch.from_numpy(scaled).permute(2, 0, 1).unsqueeze(0)


def tiles_at_once(size: int) -> int:
    """How many squares of `size` model pixels the model is given at once."""
    return max(1, min(TILES_AT_ONCE, _TILE_PIXELS // size**2))


def slices_at_once(height: int, width: int, view: View) -> int:
    """How many slices of (height, width) native pixels are seen together: what fills one call of the model."""
    rows, columns = view.model_shape(height, width)
    tiles = len(_starts(max(rows, view.size), view)) * len(_starts(max(columns, view.size), view))
    return max(1, min(tiles_at_once(view.size) // tiles, _NATIVE_PIXELS // (height * width)))


@torch.inference_mode()
def slice_logits(model: nn.Module, slices: Tensor, view: View) -> Tensor:
    """(N, 3, H, W) in [0, 1] -> (N, C, H, W) logits at native resolution."""
    native = (slices.shape[-2], slices.shape[-1])
    seen = view.to_model(slices)
    logits = model(seen) if view.kind == "whole" else _stitched(model, seen, view)
    return view.to_native(logits, native)


def _stitched(model: nn.Module, slices: Tensor, view: View) -> Tensor:
    """(N, 3, h, w) -> (N, C, h, w): overlapping tiles, averaged with weights that fall towards a tile's edge."""
    size, (height, width) = view.size, slices.shape[-2:]
    slices = _at_least(slices, size)
    across, down = _starts(slices.shape[-1], view), _starts(slices.shape[-2], view)
    corners = [(n, y, x) for n in range(len(slices)) for y in down for x in across]
    weight = _window(size).to(slices.device)
    total = slices.new_zeros(len(slices), 1, *slices.shape[-2:])
    summed: Tensor | None = None
    for first in range(0, len(corners), tiles_at_once(size)):
        some = corners[first : first + tiles_at_once(size)]
        tiles = torch.stack([slices[n, :, y : y + size, x : x + size] for n, y, x in some])
        logits = resize(model(tiles).float(), (size, size))
        if summed is None:
            summed = slices.new_zeros(len(slices), logits.shape[1], *slices.shape[-2:])
        for (n, y, x), tile in zip(some, logits, strict=True):
            summed[n, :, y : y + size, x : x + size] += tile * weight
            total[n, 0, y : y + size, x : x + size] += weight
    assert summed is not None  # there is always at least one tile
    return (summed / total)[..., :height, :width]


def _at_least(image: Tensor, size: int) -> Tensor:
    """(N, 3, h, w) with both sides at least `size`: mirrored at the lower and right edge, as training tiles are."""
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
