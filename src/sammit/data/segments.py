"""DICOM segmentations: each segment laid on the slices of its image, wherever its frames stand in the file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sammit.data.dicom import Look, Plane, class_of, frames_of, guarded, kind_of, need_decoder, planes_of, read_header
from sammit.data.formats import dicom_files
from sammit.data.pixels import Pixels
from sammit.data.series import SEGMENTATION, Series, open_series
from sammit.data.structures import Piece
from sammit.errors import UserError

if TYPE_CHECKING:
    import numpy as np


def segments(path: Path, image: Path, like: Pixels) -> Iterator[Piece]:
    """The segments of a DICOM SEG, one after another; they may overlap.

    A frame lies on the slice where it says that it lies, or that it refers to where it gives no position; slices
    without a frame are empty. A fractional segment is taken where it is at least one half.

    Args:
        path: the segmentation: a file, or a folder with one.
        image: the series that it was drawn on.
        like: that series as it was read.

    Raises:
        UserError: another kind of file, another frame of reference or grid than the image's, or no segment at all.
    """
    header, path = _segmentation(path)
    series = open_series(image)
    with guarded(path):
        reference = str(header.get("FrameOfReferenceUID") or "")
        if reference and series.reference and reference != series.reference:
            raise UserError(f"{path}: lies in another frame of reference than {image.name}; draw it on that series")
        names = {int(item.SegmentNumber): str(item.get("SegmentLabel") or "") for item in header.SegmentSequence}
    where: dict[int, list[tuple[int, int]]] = {number: [] for number in names}
    looks, planes = frames_of(header, path), planes_of(header, path)
    for frame, (look, plane) in enumerate(zip(looks, planes, strict=True)):
        with guarded(path):
            number = int(look("SegmentIdentificationSequence", "ReferencedSegmentNumber"))
            slice_ = _by_place(plane, series) if plane.grid is not None else _by_reference(plane, look, series)
        where.setdefault(number, []).append((frame, slice_))
    for number, places in where.items():
        volume = _volume(header, path, places, series)
        yield Piece(number, names.get(number, ""), _like(volume, like))


def _segmentation(path: Path) -> tuple[Any, Path]:
    """The data set of a segmentation, and its file."""
    files = dicom_files(path)
    if len(files) != 1:
        raise UserError(f"{path}: holds {len(files)} files where a mask is one DICOM segmentation; keep one")
    header = read_header(files[0], pixels=True)
    kind = kind_of(header)
    if kind == "RT Structure Set Storage":
        raise UserError(f"{files[0]}: is an RT structure set, which is not read; convert it to DICOM SEG or NIfTI")
    if class_of(header) != SEGMENTATION:
        raise UserError(f"{files[0]}: is no DICOM segmentation ({kind}); give a SEG or a NIfTI mask")
    if header.get("SegmentationType") not in ("BINARY", "FRACTIONAL"):
        raise UserError(f"{files[0]}: is a segmentation of another type than BINARY or FRACTIONAL; convert it")
    need_decoder(header, files[0])
    return header, files[0]


def _by_place(plane: Plane, series: Series) -> int:
    """The slice on which a frame lies: its corners within half a pixel, its height within a tenth of a slice."""
    import numpy as np

    if series.affine is None or plane.grid is None:
        raise UserError(f"{plane}: has a place in the patient, but its image has none; draw it on that series")
    rows, columns = plane.shape[:2]
    corners = np.array([[0, 0, 0, 1], [columns - 1, 0, 0, 1], [0, rows - 1, 0, 1]], float)
    found = (corners @ plane.grid.T @ np.linalg.inv(series.affine).T)[:, :3]
    slice_ = round(float(found[0, 2]))
    away = np.abs(found - corners[:, :3] - [0, 0, slice_])
    if series.shape[:2] != (columns, rows) or away[:, :2].max() > 0.5 or away[:, 2].max() > 0.1:
        raise UserError(f"{plane}: does not lie on the pixels of its image; resample it onto that series")
    if not 0 <= slice_ < len(series.planes):
        raise UserError(f"{plane}: lies outside its image; add the slices that are missing from that series")
    return slice_


def _by_reference(plane: Plane, look: Look, series: Series) -> int:
    """The slice that a frame without a position refers to; an image of one slice needs no reference."""
    source = (look("DerivationImageSequence", "SourceImageSequence") or [None])[0]
    known = {(item.instance, item.frame + 1): place for place, item in enumerate(series.planes)}
    frame = int(source.get("ReferencedFrameNumber") or 1) if source else 1
    instance = str(source.ReferencedSOPInstanceUID) if source else series.planes[0].instance
    if (instance, frame) not in known or (source is None and len(known) > 1):
        raise UserError(f"{plane}: refers to no slice of its image; draw it on that series")
    if plane.shape != (*series.planes[0].shape[:2], 1):
        raise UserError(f"{plane}: does not lie on the pixels of its image; resample it onto that series")
    return known[instance, frame]


def _volume(header: Any, path: Path, places: list[tuple[int, int]], series: Series) -> np.ndarray:
    """(slices, rows, columns) bool: a segment's frames, each on its slice."""
    import numpy as np
    from pydicom.pixels import iter_pixels

    columns, rows, slices = series.shape
    volume = np.zeros((slices, rows, columns), bool)
    if not places:
        return volume
    with guarded(path):
        least = 1.0 if header.SegmentationType == "BINARY" else int(header.MaximumFractionalValue) / 2
        frames = list(iter_pixels(header, indices=[frame for frame, _ in places]))
    for (_, slice_), frame in zip(places, frames, strict=True):
        volume[slice_] |= frame >= least
    return volume


def _like(volume: np.ndarray, like: Pixels) -> np.ndarray:
    """(slices, rows, columns) -> (D, H, W), cut as the image was."""
    return volume if like.cut is None else like.cut.apply(volume.transpose(2, 1, 0))
