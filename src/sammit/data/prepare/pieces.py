"""What is written of one case: a picture or a volume, each with its labels."""

from __future__ import annotations

from dataclasses import dataclass
from gzip import compress
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sammit.data.formats import suffix_of
from sammit.files import write_atomically

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Picture:
    """A 2-D image.

    Attributes:
        image: a PNG or JPEG file, which is copied byte for byte; or (H, W, 3) uint8 pixels, which become PNG.
        labels: (H, W) uint8 or uint16.
        notes: what was met on the way that hinders nothing.
    """

    image: Path | np.ndarray
    labels: np.ndarray
    notes: tuple[str, ...] = ()

    def write(self, images: Path, masks: Path, name: str) -> None:
        """Write the image and its labels as `name` into two folders."""
        if isinstance(self.image, Path):
            write_atomically(images / f"{name}{suffix_of(self.image)}", self.image.read_bytes())
        else:
            write_atomically(images / f"{name}.png", _png(self.image))
        write_atomically(masks / f"{name}.png", _png(self.labels))


@dataclass(frozen=True)
class Volume:
    """A volume on its own grid: it is not cut, turned or resampled.

    Attributes:
        image: a NIfTI file, copied with its header; or a nibabel image of another origin.
        header: the image's NIfTI header, which the labels take over.
        affine: (4, 4) voxel to world, mm.
        labels: (X, Y, Z) uint8, in the file's axes.
        notes: what was met on the way that hinders nothing.
    """

    image: Path | Any
    header: Any
    affine: np.ndarray
    labels: np.ndarray
    notes: tuple[str, ...] = ()

    def write(self, images: Path, masks: Path, name: str) -> None:
        """Write the image and its labels as `name.nii.gz` into two folders."""
        write_atomically(images / f"{name}.nii.gz", self._packed_image())
        write_atomically(masks / f"{name}.nii.gz", self._packed_labels())

    def _packed_image(self) -> bytes:
        if not isinstance(self.image, Path):
            return compress(self.image.to_bytes(), 6, mtime=0)
        data = self.image.read_bytes()
        return data if suffix_of(self.image) == ".nii.gz" else compress(data, 6, mtime=0)

    def _packed_labels(self) -> bytes:
        import nibabel

        header = self.header.copy()
        header.set_data_dtype(self.labels.dtype)
        header.set_slope_inter(1, 0)  # the image's scaling is not the labels'
        header["cal_min"] = header["cal_max"] = 0
        return compress(nibabel.Nifti1Image(self.labels, self.affine, header).to_bytes(), 6, mtime=0)


def _png(pixels: np.ndarray) -> bytes:
    from PIL import Image

    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()
