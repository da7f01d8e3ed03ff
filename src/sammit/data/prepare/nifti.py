"""NIfTI volumes of a raw copy, on their own grid."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sammit.data.prepare.opening import known_labels, named, same_shape
from sammit.data.volumes import open_nifti, same_place
from sammit.errors import UserError

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Grid:
    """A volume that was read whole.

    Attributes:
        path: its file.
        image: a nibabel image with its header and affine.
        values: (X, Y, Z), in the file's axes.
    """

    path: Path
    image: Any
    values: np.ndarray

    @property
    def zooms(self) -> tuple[float, ...]:
        """Spacing of the file's axes, mm."""
        return tuple(float(zoom) for zoom in self.image.header.get_zooms()[:3])


def read_grid(path: Path) -> Grid:
    """Read a NIfTI volume; a fourth axis of one is dropped.

    Raises:
        UserError: broken, or no volume.
    """
    import numpy as np

    with named(path):
        image = open_nifti(path)
        values = np.asanyarray(image.dataobj)
    if values.ndim == 4 and values.shape[3] == 1:
        values = values[..., 0]
    if values.ndim != 3:
        raise UserError(f"{path}: has {values.ndim} axes where a volume has 3; put the right file there")
    return Grid(path, image, values)


def labels_on(mask: Grid, image: Grid, known: Collection[int], elsewhere: bool) -> np.ndarray:
    """A mask's labels on the grid of its image: (X, Y, Z) uint8.

    Args:
        mask, image: as read.
        known: the labels that may be met.
        elsewhere: whether the mask's affine may differ from the image's.

    Raises:
        UserError: another shape, another place, or an unknown label.
    """
    same_shape(mask.values, image.values.shape, mask.path, image.path)
    if not elsewhere and not same_place(image.image.affine, mask.image.affine, image.values.shape, image.zooms):
        raise UserError(
            f"{mask.path}: lies elsewhere than its image (another affine); resample it onto the image, "
            "or where the voxels match already say --option place=image"
        )
    return known_labels(mask.values, known, mask.path)
