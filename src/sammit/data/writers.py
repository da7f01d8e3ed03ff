"""Masks and pictures for people, in the geometry of the image they belong to."""

from __future__ import annotations

from dataclasses import dataclass
from gzip import compress
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sammit.data.colours import colour_of
from sammit.data.formats import VOLUMES, is_dicom, suffix_of
from sammit.data.nrrd import SUFFIX as NRRD
from sammit.data.nrrd import nrrd_bytes
from sammit.data.series import open_series
from sammit.data.uneven import Even
from sammit.data.volumes import cut_of, header_of, open_volume
from sammit.errors import UserError
from sammit.files import write_atomically

if TYPE_CHECKING:
    import numpy as np

PLACED = {"nifti": ".nii.gz", "nrrd": NRRD}


def mask_suffix(like: Path, slices: int, kind: str = "auto") -> str:
    """The suffix of a mask that belongs to the image `like`.

    Args:
        like: the image's file.
        slices: how many it has.
        kind: "nifti", "nrrd", "png", or "auto": what has a place in the patient (NIfTI, NRRD, DICOM but for X-rays and
            photographs) gets ".nii.gz", NRRD its own; else volumes get ".tif", pictures ".png".

    Returns:
        The suffix; "" for the folder of a volume's PNGs.

    Raises:
        UserError: `kind` has a place in the patient, and the image has none.
    """
    if kind == "png":
        return "" if slices > 1 else ".png"
    placed = suffix_of(like) in VOLUMES or (is_dicom(like) and open_series(like, "resample").affine is not None)
    if kind != "auto":
        if not placed:
            raise UserError(f"{like}: does not say where in the patient it lies, as {kind} does; choose auto or png")
        return PLACED[kind]
    if placed:
        return NRRD if suffix_of(like) == NRRD else ".nii.gz"
    return ".tif" if slices > 1 else ".png"


def write_mask(path: Path, mask: np.ndarray, like: Path, axis: str = "auto") -> None:
    """Write a mask so that it lies on its image.

    NIfTI and NRRD get the image's axes (of DICOM: column, row, slice), affine, spacing and shape back; of a series that
    was resampled, its own slices, which both have to say lie evenly between the first and the last. Labels are written
    as they are, in uint8 or uint16; a bool mask as 0 and 255 in pictures, 0 and 1 elsewhere ("> 0" holds for both). A
    path without a suffix becomes a folder with a PNG for each slice, in the order of D, from 000.png on.

    Args:
        path: the target: .nii, .nii.gz, .nrrd, .tif, .png, or a folder (see `mask_suffix`).
        mask: (D, H, W) bool or whole numbers of 0 to 65535, as the image was cut.
        like: the image's file.
        axis: as the image was read.

    Raises:
        UserError: the target's format cannot hold the mask, or the disk does not take it.
    """
    import numpy as np

    volume = suffix_of(path) in VOLUMES
    if mask.dtype == bool:
        values = mask.view(np.uint8) if volume else mask * np.uint8(255)
    else:
        values = mask.astype(np.uint8 if mask.max(initial=0) < 256 else np.uint16)
    if suffix_of(path) == NRRD:
        write_atomically(path, _nrrd(values, like, axis))
    elif volume:
        write_atomically(path, _nifti(values, like, axis, packed=path.name.lower().endswith(".gz")))
    elif suffix_of(path) in (".tif", ".tiff"):
        write_atomically(path, _tiff(values))
    elif suffix_of(path) == ".png" and len(values) == 1:
        write_atomically(path, _png(values[0]))
    elif not suffix_of(path):
        _write_slices(path, values)
    else:
        raise UserError(f"{path}: cannot hold a mask of {len(values)} slice(s); use {mask_suffix(like, len(values))}")


def _write_slices(folder: Path, values: np.ndarray) -> None:
    """A PNG for each slice, and none of an earlier volume that had more."""
    digits = max(3, len(str(len(values) - 1)))
    written = [folder / f"{place:0{digits}d}.png" for place in range(len(values))]
    for path, slice_ in zip(written, values, strict=True):
        write_atomically(path, _png(slice_))
    for path in set(folder.glob("[0-9]*.png")) - set(written):
        path.unlink()


def _nrrd(values: np.ndarray, like: Path, axis: str) -> bytes:
    """The bytes of a NRRD mask on the grid of `like`."""
    return nrrd_bytes(*_own(values, like, _space(like), axis))


def _nifti(values: np.ndarray, like: Path, axis: str, packed: bool) -> bytes:
    """The bytes of a NIfTI mask on the grid of `like`."""
    import nibabel

    space = _space(like)
    straight, affine = _own(values, like, space, axis)
    header = space.header
    header.set_data_dtype(values.dtype)
    header.set_slope_inter(1, 0)  # the image's scaling is not the mask's
    header["cal_min"] = header["cal_max"] = 0
    data = nibabel.Nifti1Image(straight, affine, header).to_bytes()
    return compress(data, mtime=0) if packed else data


@dataclass(frozen=True)
class _Space:
    """Where a placed image lies: shape (X, Y, Z), spacing in mm, affine, and a NIfTI header (of DICOM's words none).

    All of them are of the even grid where a series' own slices lie unevenly: only resampled can it have a mask.
    """

    shape: tuple[int, ...]
    zooms: tuple[float, ...]
    affine: np.ndarray
    header: Any
    even: Even | None = None


def _own(values: np.ndarray, like: Path, space: _Space, axis: str) -> tuple[np.ndarray, np.ndarray]:
    """(D, H, W) -> (X, Y, Z) in the file's axes, on the slices that it has, and their affine."""
    straight = cut_of(space.shape, space.zooms, space.affine, axis).undo(values)
    if straight.shape != space.shape:
        raise UserError(f"{like}: has {space.shape} voxels where the mask has {straight.shape}; predict it again")
    if space.even is None:
        return straight, space.affine
    return space.even.back(straight), space.even.own_affine(space.affine)


def _space(like: Path) -> _Space:
    import nibabel

    if not is_dicom(like):
        image = open_volume(like)
        return _Space(*header_of(image), image.affine, image.header.copy())
    series, header = open_series(like, "resample"), nibabel.Nifti1Header()
    if series.affine is None:
        raise UserError(f"{like}: does not say where in the patient it lies; write its mask as .png")
    header.set_data_shape(series.own_shape)
    header.set_xyzt_units("mm")
    header.set_qform(series.own_affine, code="scanner")  # sets the spacing too
    header.set_sform(series.own_affine, code="scanner")
    return _Space(series.shape, series.zooms, series.affine, header, series.even)


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
        inside = mask[index, ..., structure].astype(bool)
        colour = np.array(colour_of(structure), np.float32)
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
