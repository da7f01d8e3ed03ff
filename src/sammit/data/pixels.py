"""An image as its file has it, and the few types of number that it may be in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sammit.data.volumes import Cut, Spacing

if TYPE_CHECKING:
    import numpy as np

    from sammit.data.uneven import Even


@dataclass(frozen=True)
class Pixels:
    """An image as its file has it.

    Attributes:
        array: (D, H, W, channels) uint8 or uint16 over the type's range, else float32 in the file's own unit.
        spacing: (slice, row, column) in mm, or None where the format has none.
        affine: (4, 4) voxel to world in mm, of the file's own axes; None where the format has none.
        cut: how the file's axes became (slice, row, column); None for a 2-D image.
        even: the even grid that `array`, `spacing` and `affine` are on, where the file's slices lie unevenly.
    """

    array: np.ndarray
    spacing: Spacing | None = None
    affine: np.ndarray | None = None
    cut: Cut | None = None
    even: Even | None = None

    @property
    def own_shape(self) -> tuple[int, ...]:
        """(D, H, W) of the slices that the file itself has."""
        if self.even is None or self.cut is None:
            return self.array.shape[:3]
        sides = (*self.cut.undo_shape(self.array.shape)[:2], len(self.even.places))
        return tuple(sides[axis] for axis in self.cut.order)

    @property
    def own_affine(self) -> np.ndarray | None:
        """(4, 4) voxel to world in mm of the slices that the file itself has, as NIfTI would say it."""
        return self.affine if self.even is None or self.affine is None else self.even.own_affine(self.affine)

    def on_grid(self, labels: np.ndarray) -> np.ndarray:
        """Labels (D, H, W, ...) of the file's own slices, on the grid of `array`."""
        if self.even is None or self.cut is None:
            return labels
        return self.cut.apply(self.even.truth(self.cut.undo(labels)))


def three_channels(array: np.ndarray) -> np.ndarray:
    """(..., n) -> (..., 3): one is repeated (a view), two get their mean as third, of more the first three."""
    import numpy as np

    if array.shape[-1] == 1:
        return np.broadcast_to(array, (*array.shape[:-1], 3))
    if array.shape[-1] == 2:
        mean = array.mean(axis=-1, keepdims=True, dtype=np.float32).astype(array.dtype)
        return np.concatenate([array, mean], axis=-1)
    return array[..., :3]


def channels_last(array: np.ndarray) -> np.ndarray:
    """(H, W) or (H, W, n) -> (H, W, n), in one of the three types."""
    return plain(array[..., None] if array.ndim == 2 else array)


def plain(array: np.ndarray) -> np.ndarray:
    """bool -> 0 and 255; uint8 and uint16 in native byte order as they are; whatever else -> float32."""
    import numpy as np

    if not array.size:
        raise ValueError("it has no pixels")
    if array.dtype == bool:
        return array.astype(np.uint8) * np.uint8(255)
    if array.dtype.kind == "u" and array.dtype.itemsize <= 2:
        return array.astype(array.dtype.newbyteorder("="), copy=False)
    if array.dtype.kind not in "iuf":
        raise ValueError(f"numbers of type {array.dtype}")
    return array.astype(np.float32)
