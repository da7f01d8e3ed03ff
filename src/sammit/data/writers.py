"""Masks and pictures for people, in the geometry of the image they belong to."""

from __future__ import annotations

from gzip import compress
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sammit.data.formats import VOLUMES, is_dicom, suffix_of
from sammit.data.series import open_series
from sammit.data.uneven import Even
from sammit.data.volumes import cut_of, header_of, open_nifti
from sammit.errors import UserError
from sammit.files import write_atomically

if TYPE_CHECKING:
    import numpy as np

# Okabe and Ito's colours, told apart by colour-blind readers; black and white are left to the image
COLOURS = ((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167))


def mask_suffix(like: Path, slices: int) -> str:
    """The suffix of a mask that belongs to the image `like`: ".tif" for volumes, ".png".

    What has a place in the patient (NIfTI, DICOM but for X-rays and photographs) has ".nii.gz".
    """
    if suffix_of(like) in VOLUMES or (is_dicom(like) and open_series(like, "resample").affine is not None):
        return ".nii.gz"
    return ".tif" if slices > 1 else ".png"


def write_mask(path: Path, mask: np.ndarray, like: Path, axis: str = "auto") -> None:
    """Write a mask so that it lies on its image.

    NIfTI gets the image's axes (of DICOM: column, row, slice), affine, spacing and shape back; of a series that was
    resampled, its own slices, which NIfTI has to say lie evenly between the first and the last. Labels are written as
    they are, in uint8 or uint16; a bool mask as 0 and 255 in pictures, 0 and 1 in NIfTI ("> 0" holds for both).

    Args:
        path: the target: .nii, .nii.gz, .tif, or .png (see `mask_suffix`).
        mask: (D, H, W) bool or whole numbers of 0 to 65535, as the image was cut.
        like: the image's file.
        axis: as the image was read.

    Raises:
        UserError: the target's format cannot hold the mask, or the disk does not take it.
    """
    import numpy as np

    volume = suffix_of(path) in VOLUMES
    if mask.dtype == bool:
        values = mask.astype(np.uint8) * np.uint8(1 if volume else 255)
    else:
        values = mask.astype(np.uint8 if mask.max(initial=0) < 256 else np.uint16)
    if volume:
        write_atomically(path, _nifti(values, like, axis, packed=path.name.lower().endswith(".gz")))
    elif suffix_of(path) in (".tif", ".tiff"):
        write_atomically(path, _tiff(values))
    elif suffix_of(path) == ".png" and len(values) == 1:
        write_atomically(path, _png(values[0]))
    else:
        raise UserError(f"{path}: cannot hold a mask of {len(values)} slice(s); use {mask_suffix(like, len(values))}")


def _nifti(values: np.ndarray, like: Path, axis: str, packed: bool) -> bytes:
    """The bytes of a NIfTI mask on the grid of `like`."""
    import nibabel
    import numpy as np

    shape, zooms, affine, header, even = _space(like)
    straight = np.ascontiguousarray(cut_of(shape, zooms, affine, axis).undo(values))
    if straight.shape != shape:
        raise UserError(f"{like}: has {shape} voxels where the mask has {straight.shape}; predict it again")
    if even is not None:
        straight, affine = even.back(straight), even.own_affine(affine)
    header.set_data_dtype(values.dtype)
    header.set_slope_inter(1, 0)  # the image's scaling is not the mask's
    header["cal_min"] = header["cal_max"] = 0
    data = nibabel.Nifti1Image(straight, affine, header).to_bytes()
    return compress(data, mtime=0) if packed else data


def _space(like: Path) -> tuple[tuple[int, ...], tuple[float, ...], np.ndarray, Any, Even | None]:
    """Shape, spacing in mm, affine and a NIfTI header (none of a DICOM header's words) of a placed image.

    And the even grid that all these are of, where a series' own slices lie unevenly: only resampled can it have a mask.
    """
    import nibabel

    if not is_dicom(like):
        image = open_nifti(like)
        return *header_of(image), image.affine, image.header.copy(), None
    series, header = open_series(like, "resample"), nibabel.Nifti1Header()
    if series.affine is None:
        raise UserError(f"{like}: does not say where in the patient it lies; write its mask as .png")
    header.set_data_shape(series.own_shape)
    header.set_xyzt_units("mm")
    header.set_qform(series.own_affine, code="scanner")  # sets the spacing too
    header.set_sform(series.own_affine, code="scanner")
    return series.shape, series.zooms, series.affine, header, series.even


def _png(values: np.ndarray) -> bytes:
    from PIL import Image

    buffer = BytesIO()
    Image.fromarray(values).save(buffer, format="PNG")
    return buffer.getvalue()


def _tiff(values: np.ndarray) -> bytes:
    from tifffile import imwrite

    buffer = BytesIO()
    imwrite(buffer, values, compression="zlib", photometric="minisblack")
    return buffer.getvalue()


def write_overlay(path: Path, image: np.ndarray, mask: np.ndarray, truth: np.ndarray | None = None) -> None:
    """Write a picture of an image with each structure filled lightly and outlined; of a volume, its fullest slice.

    Args:
        path: a .png.
        image: (D, H, W, 3) uint8 or uint16 over the full range.
        mask: (D, H, W, C) or (D, H, W) bool.
        truth: likewise; outlined in white.
    """
    import numpy as np

    mask = mask if mask.ndim == 4 else mask[..., None]
    index = fullest(mask)
    picture = image[index].astype(np.float32) * (255 / np.iinfo(image.dtype).max)
    for structure in range(mask.shape[-1]):
        inside, colour = (
            mask[index, ..., structure].astype(bool),
            np.array(COLOURS[structure % len(COLOURS)], np.float32),
        )
        picture[inside] = 0.75 * picture[inside] + 0.25 * colour
        picture[outline(inside)] = colour
    if truth is not None:
        truth = truth if truth.ndim == 4 else truth[..., None]
        for structure in range(truth.shape[-1]):
            picture[outline(truth[index, ..., structure].astype(bool))] = 255
    write_atomically(path, _png(np.rint(picture).astype(np.uint8)))


def fullest(mask: np.ndarray) -> int:
    """The slice of a (D, H, W, C) mask with most foreground; the middle one where there is none."""
    counts: Any = mask.astype(bool).any(axis=-1).sum(axis=(1, 2))
    return int(counts.argmax()) if counts.max() else len(mask) // 2


def outline(inside: np.ndarray) -> np.ndarray:
    """(H, W) bool -> (H, W) bool: pixels of the region next to one outside it."""
    import numpy as np

    padded = np.pad(inside, 1, mode="edge")
    core = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    edge: np.ndarray = inside & ~core
    return edge
