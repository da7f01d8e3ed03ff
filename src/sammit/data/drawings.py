"""DICOM files that say what is where on a series: segmentations and structure sets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sammit.data.contours import contours
from sammit.data.dicom import LABEL_MAP, SEGMENTATION, STRUCTURE_SET, class_of, guarded, kind_of, read_header
from sammit.data.formats import dicom_files
from sammit.data.pixels import Pixels
from sammit.data.segments import segments
from sammit.data.series import Series, open_series
from sammit.data.structures import Piece
from sammit.errors import UserError

if TYPE_CHECKING:
    import numpy as np

_READERS: dict[str, Callable[[Any, Path, Series], Iterator[Piece]]] = {
    SEGMENTATION: segments,
    LABEL_MAP: segments,
    STRUCTURE_SET: contours,
}


def drawings(path: Path, image: Path, like: Pixels, uneven: str = "refuse") -> Iterator[Piece]:
    """The segments of a DICOM SEG, or the regions of an RT structure set, one after another; they may overlap.

    Args:
        path: a file, or a folder with one.
        image: the series that it was drawn on.
        like: that series as it was read.
        uneven: how it was read, see `open_series`.

    Raises:
        UserError: another kind of file, or another frame of reference than the image's; and as `segments` and
            `contours`, for a piece when it is drawn.
    """
    files = dicom_files(path)
    if len(files) != 1:
        raise UserError(f"{path}: holds {len(files)} files where a mask is one DICOM file; keep one")
    header = read_header(files[0], pixels=True)
    if class_of(header) not in _READERS:
        raise UserError(f"{files[0]}: is no DICOM segmentation ({kind_of(header)}); give a SEG, RTSTRUCT or NIfTI mask")
    series = open_series(image, uneven)
    with guarded(files[0]):
        references = _frames_of_reference(header)
    if references and series.reference and series.reference not in references:
        raise UserError(f"{files[0]}: lies in another frame of reference than {image.name}; draw it on that series")
    for piece in _READERS[class_of(header)](header, files[0], series):
        yield replace(piece, draw=partial(_as_read, piece.draw, like))


def _frames_of_reference(header: Any) -> set[str]:
    """The UIDs of the spaces that a file draws in; a structure set may have several, or say none."""
    items = [header, *(header.get("ReferencedFrameOfReferenceSequence") or [])]
    return {str(item.FrameOfReferenceUID) for item in items if item.get("FrameOfReferenceUID")}


def _as_read(draw: Callable[[], np.ndarray], like: Pixels) -> np.ndarray:
    """A drawing of (own slices, rows, columns) as (D, H, W), on the image's grid and cut as the image was."""
    volume = draw()
    return volume if like.cut is None else like.on_grid(like.cut.apply(volume.transpose(2, 1, 0)))
