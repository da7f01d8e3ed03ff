"""A case's files as one entry: image over the full range, truth as bits, and facts about both."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from sammit.config import DataConfig
from sammit.data.intensity import to_full_range, without_copies
from sammit.data.pixels import three_channels
from sammit.data.readers import read_channels
from sammit.data.settings import Settings
from sammit.data.truth import read_truth, size
from sammit.data.volumes import Spacing
from sammit.errors import UserError
from sammit.vocabulary import Case

if TYPE_CHECKING:
    import numpy as np


MOST_CHANNELS = 4
"""Of a file with more the first three are not what anybody means."""


@dataclass(frozen=True)
class Facts:
    """What is known of an entry without its pixels.

    Attributes:
        spacing: (slice, row, column) in mm; None where nothing says.
        channels: how many the files have.
        low, high: least and greatest intensity in the files, in their own unit.
        complete: whether every pixel is labelled.
        present: for each slice, the indices of the structures in it.
    """

    spacing: Spacing | None
    channels: int
    low: float
    high: float
    complete: bool
    present: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Entry:
    """A decoded case, in its native geometry or at model scale.

    Attributes:
        image: (D, H, W, 3) uint8 or uint16 over the full range; (D, H, W, 1) for a grey one shown slice by slice.
        bits: (D, H, W, ceil((C + 1) / 8)) uint8; bit s says structure s, bit C that the pixel is labelled.
        facts: what is known without the pixels.
    """

    image: np.ndarray
    bits: np.ndarray
    facts: Facts

    @property
    def nbytes(self) -> int:
        """Bytes of both arrays."""
        return int(self.image.nbytes + self.bits.nbytes)


def decode(case: Case, settings: Settings) -> Entry:
    """Read a case's files.

    Raises:
        UserError: a broken file, a channel that is not there, or image and mask of different shapes.
    """
    import numpy as np

    config = settings.config
    pixels = [read_channels(path, config.axis, config.uneven) for path in case.image]
    low, high = min(_low(p.array) for p in pixels), max(_high(p.array) for p in pixels)
    values = _joined([to_full_range(p.array, config.window, config.intensity) for p in pixels], case)
    image = shown(values, settings, case.image[0])
    like = replace(pixels[0], array=image)
    del pixels  # a long volume in floats has served
    truth = read_truth(case, like, settings)
    spacing = like.spacing or configured_spacing(config)
    facts = Facts(spacing, values.shape[-1], low, high, bool(truth.labelled.all()), present_in(truth.layers))
    return Entry(np.ascontiguousarray(image), pack([*truth.layers, truth.labelled]), facts)


def shown(values: np.ndarray, settings: Settings, path: Path) -> np.ndarray:
    """What a model is shown of an image over its full range.

    Args:
        values: (D, H, W, n).
        settings: which channels are taken, and whether a slice is seen between its neighbours.
        path: the image, for messages.

    Returns:
        (D, H, W, 3); (D, H, W, 1) for a grey image that is shown slice by slice.
    """
    image = without_copies(three_channels(_selected(values, settings.channels, path)))
    if settings.config.slices == "2.5d" and len(image) > 1:
        return with_neighbours(image, path)
    return image


def with_neighbours(image: np.ndarray, path: Path) -> np.ndarray:
    """(D, H, W, 1) -> (D, H, W, 3): each slice between the one before it and the one after; the ends count twice.

    Raises:
        UserError: the volume is in colour, or has several channels.
    """
    import numpy as np

    if image.shape[-1] != 1:
        raise UserError(
            f"{path}: has several channels where data.slices = \"2.5d\" needs one; choose it with 'channels' in "
            'dataset.toml, or set data.slices = "2d"'
        )
    places = np.arange(len(image))
    before, after = image[np.maximum(places - 1, 0)], image[np.minimum(places + 1, len(image) - 1)]
    return np.concatenate([before, image, after], axis=-1)


def pack(layers: list[np.ndarray]) -> np.ndarray:
    """Bool maps (D, H, W), one for each structure and then the labelled pixels -> bits, see `Entry`."""
    import numpy as np

    bits = np.zeros((*layers[0].shape, (len(layers) + 7) // 8), np.uint8)
    for index, layer in enumerate(layers):
        bits[..., index // 8] |= layer.astype(np.uint8) << np.uint8(index % 8)
    return bits


def layer(bits: np.ndarray, index: int) -> np.ndarray:
    """(..., bytes) bits -> (...) bool: one structure, or the labelled pixels (index C)."""
    result: np.ndarray = (bits[..., index // 8] >> (index % 8)) & 1
    return result.astype(bool)


def present_in(layers: list[np.ndarray]) -> tuple[tuple[int, ...], ...]:
    """For each slice, the indices of the structures that have a pixel in it."""
    import numpy as np

    some = np.array([layer.any(axis=(1, 2)) for layer in layers])
    return tuple(tuple(int(index) for index in np.flatnonzero(column)) for column in some.T)


def _joined(arrays: list[np.ndarray], case: Case) -> np.ndarray:
    """Files of one case side by side as channels, in one type."""
    import numpy as np

    for array, path in zip(arrays, case.image, strict=True):
        if array.shape[:3] != arrays[0].shape[:3]:
            raise UserError(f"{path}: {size(array)} where {case.image[0].name} has {size(arrays[0])}; resample it")
    if len(arrays) == 1:
        return arrays[0]
    wide = any(array.dtype == np.uint16 for array in arrays)
    alike = [a.astype(np.uint16) * np.uint16(257) if wide and a.dtype == np.uint8 else a for a in arrays]
    return np.concatenate(alike, axis=-1)


def _selected(values: np.ndarray, channels: tuple[int, ...], path: Path) -> np.ndarray:
    if not channels and values.shape[-1] > MOST_CHANNELS:
        raise UserError(
            f"{path}: has {values.shape[-1]} channels (time points?) where a model sees three; choose with 'channels' "
            "in dataset.toml, counted from 0, or save one of them"
        )
    if not channels:
        return values
    if not all(0 <= channel < values.shape[-1] for channel in channels):
        raise UserError(f"{path}: has {values.shape[-1]} channel(s), counted from 0; mend 'channels' in dataset.toml")
    return values[..., list(channels)]


def _low(array: np.ndarray) -> float:
    import numpy as np

    return float(np.nanmin(array)) if array.size and not np.isnan(array).all() else 0.0


def _high(array: np.ndarray) -> float:
    import numpy as np

    return float(np.nanmax(array)) if array.size and not np.isnan(array).all() else 0.0


def configured_spacing(config: DataConfig) -> Spacing | None:
    """The spacing of images whose format has none; None where the recipe has none either."""
    spacing = config.spacing
    return (spacing[0], spacing[1], spacing[2]) if spacing else None
