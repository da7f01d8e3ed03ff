"""DICOM segmentations: each segment laid on the slices of its image, wherever its frames stand in the file."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sammit.data.dicom import Look, Plane, frames_of, guarded, planes_of, read_header
from sammit.data.formats import dicom_files
from sammit.data.series import Series
from sammit.data.stored import need_decoder
from sammit.data.structures import Piece
from sammit.errors import UserError

if TYPE_CHECKING:
    import numpy as np


def segments(header: Any, path: Path, series: Series) -> Iterator[Piece]:
    """The segments of a DICOM SEG, one after another; they may overlap, but for those of a label map.

    A frame lies on the slice where it says that it lies, or that it refers to where it gives no position; slices
    without a frame are empty. A fractional segment is taken where it is at least one half.

    Args:
        header: the segmentation's data set, with its pixels.
        path: its file.
        series: the image that it was drawn on.

    Raises:
        UserError: a type of segmentation that is not known, another grid than the image's, or no segment at all.
    """
    need_decoder(header, path)
    with guarded(path):
        names = {int(item.SegmentNumber): str(item.get("SegmentLabel") or "") for item in header.SegmentSequence}
    kind = header.get("SegmentationType")
    if kind in ("BINARY", "FRACTIONAL"):
        return _in_frames(header, path, series, names)
    if kind == "LABELMAP":
        return _in_numbers(header, path, series, names)
    raise UserError(f"{path}: is a segmentation of no known type; save it as BINARY, FRACTIONAL or LABELMAP")


def _in_frames(header: Any, path: Path, series: Series, names: dict[int, str]) -> Iterator[Piece]:
    """The segments where each has frames of its own."""
    where: dict[int, list[tuple[int, int]]] = {number: [] for number in names}
    for frame, (look, slice_) in enumerate(_placed(header, path, series)):
        with guarded(path):
            number = int(look("SegmentIdentificationSequence", "ReferencedSegmentNumber"))
        where.setdefault(number, []).append((frame, slice_))
    for number, places in where.items():
        yield Piece(number, names.get(number, ""), partial(_volume, header, path, places, series))


def _in_numbers(header: Any, path: Path, series: Series, names: dict[int, str]) -> Iterator[Piece]:
    """The segments where each pixel has the number of one (a label map); what is padding is none."""
    import numpy as np
    from pydicom.pixels import iter_pixels

    columns, rows, slices = series.own_shape
    seen: set[int] = set()
    with guarded(path):
        background = int(header.get("PixelPaddingValue") or 0)
        frames = list(iter_pixels(header, raw=True))
    labels = np.full((slices, rows, columns), background, np.int32)
    for (_, slice_), frame in zip(_placed(header, path, series), frames, strict=True):
        if slice_ in seen:
            raise UserError(f"{path}: has two frames on one slice, which a label map cannot have; save it again")
        seen.add(slice_)
        labels[slice_] = frame
    for number in sorted({*names, *np.unique(labels).tolist()} - {background}):
        yield Piece(number, names.get(number, ""), partial(np.equal, labels, number))


def _placed(header: Any, path: Path, series: Series) -> Iterator[tuple[Look, int]]:
    """For each frame how to look its values up, and the slice it lies on."""
    for look, plane in zip(frames_of(header, path), planes_of(header, path), strict=True):
        with guarded(path):
            slice_ = _by_place(plane, series) if plane.grid is not None else _by_reference(plane, look, series)
        yield look, slice_


def labels_of(path: Path) -> set[str]:
    """The labels of a SEG's segments, in lower case; none of any other DICOM file."""
    header = read_header(dicom_files(path)[0])
    with guarded(path):
        return {str(item.get("SegmentLabel") or "").strip().lower() for item in header.get("SegmentSequence") or []}


def _by_place(plane: Plane, series: Series) -> int:
    """The slice on which a frame lies: its corners within half a pixel, its height within a tenth of a slice."""
    import numpy as np

    if series.affine is None or plane.grid is None:
        raise UserError(f"{plane}: has a place in the patient, but its image has none; draw it on that series")
    rows, columns = plane.shape[:2]
    corners = np.array([[0, 0, 0, 1], [columns - 1, 0, 0, 1], [0, rows - 1, 0, 1]], float)
    slice_, found = series.slice_at(corners @ plane.grid.T)
    away = np.abs(found - corners[:, :3])
    fits = series.shape[:2] == (columns, rows) and away[:, :2].max() <= 0.5
    if fits and slice_ in (0, len(series.planes) - 1) and away[:, 2].min() > 5 * series.slack:
        raise UserError(f"{plane}: lies outside its image; add the slices that are missing from that series")
    if not fits or away[:, 2].max() > series.slack:
        raise UserError(f"{plane}: does not lie on the pixels of its image; resample it onto that series")
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

    columns, rows, slices = series.own_shape
    volume = np.zeros((slices, rows, columns), bool)
    if not places:
        return volume
    with guarded(path):
        least = 1.0 if header.SegmentationType == "BINARY" else int(header.MaximumFractionalValue) / 2
        indices = [frame for frame, _ in places]
        packed = int(header.BitsAllocated) == 1 and not header.file_meta.TransferSyntaxUID.is_compressed
        frames = _unpacked(header, indices) if packed else iter_pixels(header, indices=indices)
        for (_, slice_), frame in zip(places, frames, strict=True):
            volume[slice_] |= frame >= least
    return volume


def _unpacked(header: Any, indices: list[int]) -> Iterator[np.ndarray]:
    """(rows, columns) frames of one bit a pixel.

    A frame may begin within a byte; pydicom (3.0.2) then reads one byte too few of some sizes.
    """
    import numpy as np

    data, size = np.frombuffer(header.PixelData, np.uint8), int(header.Rows) * int(header.Columns)
    for frame in indices:
        start = frame * size
        bits = np.unpackbits(data[start // 8 : -(-(start + size) // 8)], bitorder="little")
        yield bits[start % 8 : start % 8 + size].reshape(header.Rows, header.Columns)
