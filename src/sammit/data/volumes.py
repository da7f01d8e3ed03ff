"""Volumes: which axis is cut into slices, and the way there and back.

A file's axes (x, y, z) become (slice, row, column) by an order and flips, so that slices of all hospitals stand
upright alike whatever orientation their scanner wrote: patient's right on the left, front (or head) on top. The same
`Cut` undone brings a mask back to the file's own axes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sammit.data.formats import suffix_of
from sammit.data.nrrd import SUFFIX, open_nrrd
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
        """(D, H, W, ...) -> (X, Y, Z, ...) in the file's axes, a view."""
        straight = volume[tuple(slice(None, None, -1 if flip else 1) for flip in self.flips)]
        inverse = tuple(self.order.index(axis) for axis in range(3))
        return straight.transpose(*inverse, *range(3, volume.ndim))

    def undo_shape(self, shape: tuple[int, ...]) -> tuple[int, int, int]:
        """(D, H, W, ...) -> (X, Y, Z) of the file."""
        x, y, z = (shape[self.order.index(axis)] for axis in range(3))
        return x, y, z

    def affine(self, affine: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """(4, 4) from the file's voxels to world, and the file's shape -> (4, 4) from (slice, row, column) to world."""
        import numpy as np

        signs = [-1.0 if flip else 1.0 for flip in self.flips]
        turned = np.eye(4)
        turned[:3, :3] = affine[:3, list(self.order)] * signs
        ends = [(shape[axis] - 1) * flip for axis, flip in zip(self.order, self.flips, strict=True)]
        turned[:3, 3] = affine[:3, 3] + affine[:3, list(self.order)] @ np.array(ends, float)
        return turned

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


def cut_like(
    shape: tuple[int, ...],
    zooms: tuple[float, ...],
    affine: np.ndarray,
    image_shape: tuple[int, ...],
    image_affine: np.ndarray,
    image_cut: Cut,
) -> Cut | None:
    """How to cut a mask so that it lies on its image, whatever the order and direction of its own axes.

    Args:
        shape, zooms, affine: the mask's file: first three axes, mm, voxel to world.
        image_shape: the image as it was cut, (D, H, W, ...).
        image_affine, image_cut: the image's file, and how it was cut.

    Returns:
        The cut; None where the mask lies elsewhere.
    """
    import numpy as np

    image_file = image_cut.undo_shape(image_shape)
    if tuple(shape) == image_file and same_place(affine, image_affine, shape, zooms):
        return image_cut
    wanted = image_cut.affine(image_affine, image_file)
    if not (np.isfinite(affine).all() and np.isfinite(wanted).all()):
        return None
    along = _unit(wanted[:3, :3]).T @ _unit(affine[:3, :3])  # cosines of (slice, row, column) with the file's axes
    order = tuple(int(index) for index in np.abs(along).argmax(axis=1))
    cut = Cut(order, tuple(bool(along[place, index] < 0) for place, index in enumerate(order)))  # type: ignore[arg-type]
    if sorted(order) != [0, 1, 2] or tuple(shape[index] for index in order) != tuple(image_shape[:3]):
        return None
    return cut if same_place(cut.affine(affine, shape), wanted, image_shape, zooms) else None


def _unit(axes: np.ndarray) -> np.ndarray:
    import numpy as np

    unit: np.ndarray = axes / np.maximum(np.linalg.norm(axes, axis=0), 1e-12)
    return unit


def _world(affine: np.ndarray | None) -> list[tuple[int, int]] | None:
    """For each of the file's axes the world axis it follows and its sign; None where that cannot be told."""
    import numpy as np
    from nibabel.orientations import io_orientation

    if affine is None or not np.isfinite(affine).all() or np.linalg.matrix_rank(affine[:3, :3]) < 3:
        return None
    return [(int(axis), int(sign)) for axis, sign in io_orientation(affine)]


def open_volume(path: Path) -> Any:
    """A NIfTI or NRRD file as a NIfTI image, its data not yet read."""
    return open_nrrd(path) if suffix_of(path) == SUFFIX else open_nifti(path)


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
