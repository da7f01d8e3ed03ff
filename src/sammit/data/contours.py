"""RT structure sets: each region's contours as a mask on the slices of its image.

A pixel belongs to a contour where its centre lies inside; a centre on the line itself belongs to it at the contour's
low columns and rows and not at its high ones, so that regions side by side neither overlap nor leave a gap. Of several
contours on a slice those pixels count that lie in an odd number of them: a contour in another is a hole. A contour that
is there twice counts once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sammit.data.dicom import guarded
from sammit.data.series import Series
from sammit.data.structures import Piece
from sammit.errors import UserError

if TYPE_CHECKING:
    import numpy as np

_CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")


def contours(header: Any, path: Path, series: Series) -> Iterator[Piece]:
    """The regions of an RT structure set by number and name; they may overlap. One without contours is empty.

    Args:
        header: the structure set's data set.
        path: its file.
        series: the image that it was drawn on.

    Raises:
        UserError: the image has no place; and, when a region is drawn: points or open lines, contours between slices
            or beside the image.
    """
    if series.affine is None:
        raise UserError(f"{path}: has a place in the patient, but its image has none; draw it on that series")
    with guarded(path):
        drawn = {int(item.ReferencedROINumber): item for item in header.get("ROIContourSequence") or []}
        regions = [_region(item, drawn, path) for item in header.StructureSetROISequence]
    for region in regions:
        yield Piece(region.number, region.name, partial(_volume, region, series))


@dataclass(frozen=True)
class _Region:
    """A region as the file has it.

    Attributes:
        path: the file.
        number, name: its own.
        reference: the UID of the space it is drawn in, "" where the file does not say; never shown.
        contours: its contours' items.
    """

    path: Path
    number: int
    name: str
    reference: str = field(repr=False)
    contours: Sequence[Any] = field(repr=False)

    def __str__(self) -> str:
        return f"{self.path}: region {self.number} '{self.name}'"


def _region(item: Any, drawn: dict[int, Any], path: Path) -> _Region:
    """A region from its item in the list of regions, and the items with contours by number."""
    number = int(item.ROINumber)
    reference = str(item.get("ReferencedFrameOfReferenceUID") or "")
    contours = (drawn[number].get("ContourSequence") or []) if number in drawn else []
    return _Region(path, number, str(item.get("ROIName") or ""), reference, contours)


def _volume(region: _Region, series: Series) -> np.ndarray:
    """(own slices, rows, columns) bool: what a region's contours enclose."""
    import numpy as np

    if region.reference and series.reference and region.reference != series.reference:
        raise UserError(f"{region}: lies in another frame of reference than its image; draw it on that series")
    columns, rows, slices = series.own_shape
    outlines: dict[int, dict[bytes, np.ndarray]] = {}
    with guarded(region.path):
        for contour in region.contours:
            slice_, outline = _on_slice(_points(contour, region), region, series)
            outlines.setdefault(slice_, {})[outline.tobytes()] = outline
    volume = np.zeros((slices, rows, columns), bool)
    for slice_, once in outlines.items():
        volume[slice_] = enclosed(list(once.values()), (rows, columns))
    return volume


def _points(contour: Any, region: _Region) -> np.ndarray:
    """(n, 4) world (right, anterior, superior, 1) in mm; DICOM's own world runs to the left and back."""
    import numpy as np

    kind = contour.get("ContourGeometricType")
    if kind not in _CLOSED:
        raise UserError(
            f"{region}: is drawn as points or open lines and encloses nothing; name the regions that do in [structures]"
        )
    numbers = np.array(contour.ContourData, float)
    if numbers.size % 3 or not np.isfinite(numbers).all():
        raise UserError(f"{region}: has a contour whose numbers are no points; export the structure set again")
    points = numbers.reshape(-1, 3) * [-1.0, -1.0, 1.0]
    return np.concatenate([points, np.ones((len(points), 1))], axis=1)


def _on_slice(points: np.ndarray, region: _Region, series: Series) -> tuple[int, np.ndarray]:
    """The slice that a contour lies on, and its (n, 2) columns and rows there."""
    import numpy as np

    slice_, found = series.slice_at(points)
    if np.abs(found[:, 2]).max() > series.slack:
        raise UserError(
            f"{region}: has a contour {np.abs(found[:, 2]).max():.3g} mm beside the nearest slice "
            f"({series.planes[slice_].path.name}); draw it on that series, or export it without interpolated contours"
        )
    flat = np.round(found[:, :2], 4)  # pixels: on a centre or not must not be decided by the noise of a matrix
    if flat.min() < -1 or (flat > np.array(series.shape[:2])).any():
        raise UserError(
            f"{region}: has a contour that leaves the pixels of {series.planes[slice_].path.name}; "
            "draw it on that series, or cut it at the image's border"
        )
    return slice_, flat


def enclosed(outlines: list[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    """The pixels whose centres lie in an odd number of closed outlines.

    Each side of an outline turns over, in every row that it crosses, all pixels to the right of the crossing.

    Args:
        outlines: (n, 2) columns and rows of the corners, pixel centres at whole numbers; the last joins the first.
        shape: rows and columns of the picture.

    Returns:
        (rows, columns) bool.
    """
    import numpy as np

    rows, columns = shape
    turns = np.zeros((rows, columns + 1), np.int32)
    for outline in outlines:
        start, end = outline, np.roll(outline, -1, axis=0)
        lower, upper = (np.where((start[:, 1] <= end[:, 1])[:, None], *pair) for pair in ((start, end), (end, start)))
        first, last = (np.clip(np.ceil(side[:, 1]), 0, rows).astype(int) for side in (lower, upper))
        sides = np.repeat(np.arange(len(outline)), last - first)
        row = np.arange(len(sides)) - np.repeat(np.cumsum(last - first) - last, last - first)
        slope = (upper - lower)[sides]
        crossing = lower[sides, 0] + slope[:, 0] * ((row - lower[sides, 1]) / slope[:, 1])
        np.add.at(turns, (row, np.clip(np.ceil(crossing), 0, columns).astype(int)), 1)
    inside: np.ndarray = turns.cumsum(axis=1)[:, :columns] % 2 == 1
    return inside
