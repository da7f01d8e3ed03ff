"""Volumes: which axis is cut into slices, and the way there and back.

A file's axes (x, y, z) become (slice, row, column) by an order and flips, so that slices of all hospitals stand
upright alike whatever orientation their scanner wrote: patient's right on the left, front (or head) on top. The same
`Cut` undone brings a mask back to the file's own axes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sammit.errors import UserError

if TYPE_CHECKING:
    import numpy as np

Spacing = tuple[float, float, float]


@dataclass(frozen=True)
class Cut:
    """How a file's axes become (slice, row, column).

    Attributes:
        order: the file's axis that becomes the slice, the row and the column.
        flips: whether each of these three runs backwards in the file.
    """

    order: tuple[int, int, int] = (0, 1, 2)
    flips: tuple[bool, bool, bool] = (False, False, False)

    def apply(self, volume: np.ndarray) -> np.ndarray:
        """(X, Y, Z, ...) in the file's axes -> (D, H, W, ...), a view."""
        turned = volume.transpose(*self.order, *range(3, volume.ndim))
        return turned[tuple(slice(None, None, -1 if flip else 1) for flip in self.flips)]

    def undo(self, volume: np.ndarray) -> np.ndarray:
        """(D, H, W) -> (X, Y, Z) in the file's axes, a view."""
        straight = volume[tuple(slice(None, None, -1 if flip else 1) for flip in self.flips)]
        inverse = tuple(self.order.index(axis) for axis in range(3))
        return straight.transpose(inverse)

    def spacing(self, zooms: tuple[float, ...]) -> Spacing:
        """The file's (x, y, z) spacing in mm as (slice, row, column)."""
        return (float(zooms[self.order[0]]), float(zooms[self.order[1]]), float(zooms[self.order[2]]))


def slice_axis(shape: tuple[int, ...], zooms: tuple[float, ...], affine: np.ndarray | None, axis: str) -> int:
    """The file's axis that is cut.

    Args:
        shape: the file's first three axes.
        zooms: their spacing, mm.
        affine: (4, 4) voxel to world (right, anterior, superior), mm; None where the format has none.
        axis: "0", "1", "2", or "auto": the coarsest; among equals the head-foot one. An axis of one slice is cut
            whatever this says: a 2-D image has one way to be looked at.
    """
    flat = [index for index in range(3) if shape[index] == 1]
    if flat:
        return flat[-1]
    if axis != "auto":
        return int(axis)
    coarsest = [index for index in range(3) if zooms[index] > 0.99 * max(zooms[:3])]
    world = _world(affine)
    upright = [index for index in coarsest if world is not None and world[index][0] == 2]
    return (upright or coarsest)[-1]


def cut_of(shape: tuple[int, ...], zooms: tuple[float, ...], affine: np.ndarray | None, axis: str) -> Cut:
    """The cut of a volume; see `slice_axis` for the arguments."""
    first = slice_axis(shape, zooms, affine, axis)
    rest = [index for index in range(3) if index != first]
    world = _world(affine)
    if world is None:
        return Cut((first, rest[0], rest[1]))
    row, column = sorted(rest, key=lambda index: -world[index][0])  # head-foot, then front-back, then right-left
    wanted = (1, -1, -1)  # slices run to the right, front or head; rows and columns to foot, back, left
    order = (first, row, column)
    return Cut(order, tuple(world[index][1] != sign for index, sign in zip(order, wanted, strict=True)))  # type: ignore[arg-type]


def _world(affine: np.ndarray | None) -> list[tuple[int, int]] | None:
    """For each of the file's axes the world axis it follows and its sign; None where that cannot be told."""
    import numpy as np
    from nibabel.orientations import io_orientation

    if affine is None or not np.isfinite(affine).all() or np.linalg.matrix_rank(affine[:3, :3]) < 3:
        return None
    return [(int(axis), int(sign)) for axis, sign in io_orientation(affine)]


def open_nifti(path: Path) -> Any:
    """A NIfTI image, its data not yet read; its header may be of either endianness."""
    import nibabel

    image = nibabel.load(path)
    if image.header.get_data_dtype().names or len(image.shape) not in (2, 3, 4):
        raise UserError(f"{path}: colour or {len(image.shape)}-D NIfTI is not read; save it as a 3-D volume of numbers")
    return image


def header_of(image: Any) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Shape (X, Y, Z) and spacing in mm of a NIfTI image; a 2-D one counts as one slice."""
    shape = (*image.shape[:3], 1)[:3]
    zooms = (*(float(zoom) for zoom in image.header.get_zooms()[:3]), 1.0)[:3]
    return shape, zooms


def same_place(first: np.ndarray, second: np.ndarray, shape: tuple[int, ...], zooms: tuple[float, ...]) -> bool:
    """Whether two affines put every corner of a volume within half a voxel of each other."""
    import numpy as np

    corners = np.array([[x, y, z, 1] for x in (0, shape[0]) for y in (0, shape[1]) for z in (0, shape[2])], float)
    apart = np.linalg.norm((corners @ first.T - corners @ second.T)[:, :3], axis=1)
    return bool(apart.max() <= 0.5 * min(zooms[:3]))
