"""A DICOM series as one image: slices in their order along the patient, in the image's unit, with their place in mm."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sammit.data.dicom import Plane, guarded, kind_of, planes_of, read_header
from sammit.data.formats import dicom_files
from sammit.data.pixels import Pixels
from sammit.data.stored import stored_frames
from sammit.data.suitable import need_alike, need_image, need_one_series
from sammit.data.uneven import Even, grid_of, height_of, once_each
from sammit.data.volumes import cut_of
from sammit.errors import UserError

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Series:
    """What the headers of a series say.

    Attributes:
        planes: its own slices, in order along their normal (row direction x column direction).
        affine: (4, 4) (column, row, slice) to world (right, anterior, superior), mm; None for a picture without place.
        reference: the frame of reference's UID, "" where there is none; never shown.
        even: the grid that was laid through slices that lie unevenly; `affine`, `shape` and `zooms` are then its.
    """

    planes: tuple[Plane, ...]
    affine: np.ndarray | None
    reference: str = field(repr=False)
    even: Even | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Columns, rows, slices: the file's own axes, in the order of NIfTI's."""
        rows, columns = self.planes[0].shape[:2]
        return columns, rows, self.even.slices if self.even else len(self.planes)

    @property
    def own_shape(self) -> tuple[int, int, int]:
        """Columns, rows, own slices."""
        return *self.shape[:2], len(self.planes)

    @property
    def own_affine(self) -> np.ndarray | None:
        """The affine of the own slices as NIfTI has to say it: with the mean step, where they lie unevenly."""
        return self.affine if self.even is None or self.affine is None else self.even.own_affine(self.affine)

    def own(self, volume: np.ndarray) -> np.ndarray:
        """A mask (column, row, slice, ...) on the grid of `shape` -> on the own slices."""
        return volume if self.even is None else self.even.back(volume)

    @property
    def zooms(self) -> tuple[float, float, float]:
        """Spacing in mm of columns, rows and slices; these along the normal, for a tilted gantry shears the stack."""
        row, column = self.planes[0].spacing or (1.0, 1.0)
        if self.affine is None or self.planes[0].grid is None or len(self.planes) == 1:
            return column, row, self.planes[0].depth or 1.0
        return column, row, round(float(self.affine[:3, 2] @ self.planes[0].grid[:3, 2]), 6)

    @cached_property
    def heights(self) -> np.ndarray:
        """(slices,) mm of the own slices along their normal, ascending."""
        import numpy as np

        return np.array([height_of(plane) for plane in self.planes])

    @property
    def slack(self) -> float:
        """How far, in mm along the normal, a drawing may lie beside a slice: a tenth of the usual step."""
        import numpy as np

        return 0.1 * (float(np.median(np.diff(self.heights))) if len(self.planes) > 1 else self.planes[0].depth or 1.0)

    def slice_at(self, points: np.ndarray) -> tuple[int, np.ndarray]:
        """The own slice next to some points, and where they lie on it.

        Args:
            points: (n, 4) world (right, anterior, superior, 1), mm.

        Returns:
            The slice, and (n, 3): column, row, and mm along the normal.
        """
        import numpy as np

        normal: Any = self.planes[0].grid
        slice_ = int(np.abs(self.heights - (points[:, :3] @ normal[:3, 2]).mean()).argmin())
        grid: Any = self.planes[slice_].grid
        return slice_, (points @ np.linalg.inv(grid).T)[:, :3]


def open_series(path: Path, uneven: str = "refuse") -> Series:
    """The slices of one series, whatever the names and the order of its files.

    Args:
        path: a file, or a folder that holds the files of one series and no other DICOM files.
        uneven: what becomes of slices that are missing, doubled or not evenly spaced: "refuse" or "resample".

    Raises:
        UserError: no image among the files, files of several series, slices that do not fit each other, slices that do
            not lie evenly (see `uneven.grid_of` and, where they are resampled, `uneven.once_each`), or a compression
            that is not read.
    """
    files = dicom_files(path)
    if not files:
        raise UserError(f"{path}: holds no DICOM file; put the slices of one series into it")
    planes, reference = _planes(files)
    if len(planes) > 1:
        need_alike(planes)
    ordered = sorted(planes, key=height_of)
    if uneven == "resample":
        ordered = once_each(ordered)
    if len(ordered) == 1:
        return Series(tuple(ordered), _single(ordered[0]), reference)
    affine, even = grid_of(ordered, uneven)
    return Series(tuple(ordered), affine, reference, even)


def _planes(files: list[Path]) -> tuple[list[Plane], str]:
    """The slices of some files, in the files' order, and their frame of reference."""
    planes: list[Plane] = []
    series: dict[str, list[tuple[Path, str]]] = {}
    reference = ""
    for file in files:
        header = read_header(file)
        need_image(header, file)
        with guarded(file):
            series.setdefault(str(header.get("SeriesInstanceUID") or ""), []).append((file, kind_of(header)))
            reference = str(header.get("FrameOfReferenceUID") or "")
        planes += planes_of(header, file)
    need_one_series(list(series.values()))
    return planes, reference


def read_series(path: Path, axis: str, uneven: str = "refuse") -> Pixels:
    """The image of a series, 8-bit pictures in uint8, all else in float32 in its own unit (HU for CT).

    Stored numbers are scaled by each slice's own slope and intercept; where white is zero (MONOCHROME1) they are turned
    first. YCbCr becomes RGB.

    Raises:
        UserError: as `open_series`; or pixels that cannot be decoded.
    """
    import numpy as np

    series = open_series(path, uneven)
    small = all(plane.bits == 8 and plane.scale == (1.0, 0.0) for plane in series.planes)
    rows, columns, samples = series.planes[0].shape
    volume = np.empty((len(series.planes), rows, columns, samples), np.uint8 if small else np.float32)
    places = {(plane.path, plane.frame): place for place, plane in enumerate(series.planes)}
    for file in dict.fromkeys(plane.path for plane in series.planes):
        for frame, stored in enumerate(stored_frames(file)):
            place = places.get((file, frame))
            if place is not None:  # a copy of another slice was left out
                scale = series.planes[place].scale
                values = stored if small else stored.astype(np.float32) * scale[0] + scale[1]
                volume[place] = values.reshape(rows, columns, samples)
    if series.affine is None:
        return Pixels(volume, None if series.planes[0].spacing is None else series.zooms[::-1])
    cut = cut_of(series.shape, series.zooms, series.affine, axis)
    own = volume.transpose(2, 1, 0, 3)
    array = cut.apply(series.even.image(own) if series.even else own)
    return Pixels(array, cut.spacing(series.zooms), series.affine, cut, series.even)


def depth_of_series(path: Path) -> int:
    """How many slices a series has; the header is read only where there is but one file."""
    files = dicom_files(path)
    return len(files) if len(files) > 1 else len(open_series(path, "resample").planes)


def _single(plane: Plane) -> np.ndarray | None:
    """The affine of a series of one slice."""
    import numpy as np

    return None if plane.grid is None else plane.grid @ np.diag([1.0, 1.0, plane.depth or 1.0, 1.0])
