"""An array in memory as an image, shown to a model by the rules for files, so that both get the same masks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sammit.data.decode import MOST_CHANNELS, configured_spacing, shown
from sammit.data.intensity import to_full_range
from sammit.data.pixels import plain, three_channels
from sammit.data.settings import Settings
from sammit.data.stacks import is_flat
from sammit.data.volumes import Spacing
from sammit.errors import UserError

_ARRAY = Path("the array")
"""Stands for a file's name in messages."""


def image_of(array: NDArray[Any], settings: Settings) -> NDArray[np.integer]:
    """What a model is shown of an array.

    Args:
        array: a picture (H, W) or (H, W, n), or a volume (D, H, W) or (D, H, W, n); a last axis of up to four counts
            as channels. In the type that a file would have: unsigned numbers of 8 and 16 bits have a range of their
            own, bool is black and white, others are in their own unit. A volume is cut along its first axis, and its
            slices stand as Sammit cuts those of files: patient's right on the left, front or head on top.
        settings: how the images of training were read.

    Returns:
        (D, H, W, 3) uint8 or uint16, full range; maybe a read-only view.

    Raises:
        UserError: no array of numbers, a shape that no image has, or numbers that are not finite.
    """
    values = _channels_last(array, settings)
    config = settings.config
    return three_channels(shown(to_full_range(values, config.window, config.intensity), settings, _ARRAY))


def spacing_of(spacing: Sequence[float] | None, settings: Settings) -> Spacing | None:
    """Millimetres, (slice, row, column), checked; what the run's data say where none is given."""
    if spacing is None:
        return configured_spacing(settings.config)
    if len(spacing) != 3 or not all(math.isfinite(side) and side > 0 for side in spacing):
        raise UserError(
            f"spacing: must be three numbers above 0, mm: slice, row, column (1 for a picture's slice); not {spacing}"
        )
    return float(spacing[0]), float(spacing[1]), float(spacing[2])


def _channels_last(array: NDArray[Any], settings: Settings) -> NDArray[Any]:
    """An array as (D, H, W, n), in one of the types of `Pixels`."""
    if not isinstance(array, np.ndarray):
        raise UserError(f"{_ARRAY}: is a {type(array).__name__}; make it a NumPy array, such as numpy.asarray(image)")
    if array.dtype != bool and array.dtype.kind not in "iuf":
        raise UserError(f"{_ARRAY}: holds {array.dtype} where an image has numbers; convert it, such as to float32")
    if array.ndim not in (2, 3, 4) or not array.size:
        raise UserError(
            f"{_ARRAY}: has the shape {array.shape}; give (H, W), (H, W, channels), (D, H, W) or (D, H, W, channels), "
            "without a batch"
        )
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise UserError(f"{_ARRAY}: holds NaN or infinity; replace them, such as by numpy.nan_to_num(array)")
    values = array[None] if is_flat(array.shape) else array
    values = plain(values if values.ndim == 4 else values[..., None])
    _need_channels(values.shape[-1], settings.channels)
    return values


def _need_channels(has: int, wanted: tuple[int, ...]) -> None:
    """Raise UserError where the channels that the run was trained on are not there, or nobody said which to take."""
    if wanted and max(wanted) >= has:
        raise UserError(
            f"{_ARRAY}: has {has} channel(s), and the run takes {', '.join(map(str, wanted))} of its images' own, "
            "counted from 0; give all channels, on the last axis"
        )
    if not wanted and has > MOST_CHANNELS:
        raise UserError(f"{_ARRAY}: has {has} channels where a model sees three; give those it was trained on")
