"""A DICOM series as one image: slices in their order along the patient, in the image's unit, with their place in mm."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sammit.data.dicom import Plane, class_of, guarded, kind_of, need_decoder, planes_of, read_header
from sammit.data.formats import dicom_files, image_files, is_dicom
from sammit.data.pixels import Pixels
from sammit.data.volumes import cut_of
from sammit.errors import UserError

if TYPE_CHECKING:
    import numpy as np

SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
_SHOWN = ("MONOCHROME1", "MONOCHROME2", "RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")


@dataclass(frozen=True)
class Series:
    """What the headers of a series say.

    Attributes:
        planes: its slices, in order along their normal (row direction x column direction).
        affine: (4, 4) (column, row, slice) to world (right, anterior, superior), mm; None for a picture without place.
        reference: the frame of reference's UID, "" where there is none; never shown.
    """

    planes: tuple[Plane, ...]
    affine: np.ndarray | None
    reference: str = field(repr=False)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Columns, rows, slices: the file's own axes, in the order of NIfTI's."""
        return self.planes[0].shape[1], self.planes[0].shape[0], len(self.planes)

    @property
    def zooms(self) -> tuple[float, float, float]:
        """Spacing in mm of columns, rows and slices; these along the normal, for a tilted gantry shears the stack."""
        row, column = self.planes[0].spacing or (1.0, 1.0)
        if self.affine is None or self.planes[0].grid is None or len(self.planes) == 1:
            return column, row, self.planes[0].depth or 1.0
        return column, row, round(float(self.affine[:3, 2] @ self.planes[0].grid[:3, 2]), 6)


def open_series(path: Path) -> Series:
    """The slices of one series, whatever the names and the order of its files.

    Args:
        path: a file, or a folder that holds the files of one series and no other DICOM files.

    Raises:
        UserError: no image among the files, files of several series, slices that do not fit each other, slices that are
            missing, doubled or not evenly spaced, or a compression that is not read.
    """
    files = dicom_files(path)
    if not files:
        raise UserError(f"{path}: holds no DICOM file; put the slices of one series into it")
    planes: list[Plane] = []
    series: set[str] = set()
    reference = ""
    for file in files:
        header = read_header(file)
        _need_image(header, file)
        with guarded(file):
            series.add(str(header.get("SeriesInstanceUID") or ""))
            reference = str(header.get("FrameOfReferenceUID") or "")
        planes += planes_of(header, file)
    if len(series) > 1:
        raise UserError(f"{path}: holds files of {len(series)} series; give each a folder of its own")
    if len(planes) == 1:
        return Series(tuple(planes), _single(planes[0]), reference)
    _need_alike(planes)
    ordered = sorted(planes, key=_height)
    return Series(tuple(ordered), _evenly(ordered), reference)


def read_series(path: Path, axis: str) -> Pixels:
    """The image of a series, 8-bit pictures in uint8, all else in float32 in its own unit (HU for CT).

    Stored numbers are scaled by each slice's own slope and intercept; where white is zero (MONOCHROME1) they are turned
    first. YCbCr becomes RGB.

    Raises:
        UserError: as `open_series`; or pixels that cannot be decoded.
    """
    import numpy as np

    series = open_series(path)
    small = all(plane.bits == 8 and plane.scale == (1.0, 0.0) for plane in series.planes)
    rows, columns, samples = series.planes[0].shape
    volume = np.empty((len(series.planes), rows, columns, samples), np.uint8 if small else np.float32)
    places = {(plane.path, plane.frame): place for place, plane in enumerate(series.planes)}
    for file in dict.fromkeys(plane.path for plane in series.planes):
        for frame, stored in enumerate(_frames(file)):
            plane = series.planes[places[file, frame]]
            values = stored if small else stored.astype(np.float32) * plane.scale[0] + plane.scale[1]
            volume[places[file, frame]] = values.reshape(rows, columns, samples)
    if series.affine is None:
        return Pixels(volume, None if series.planes[0].spacing is None else series.zooms[::-1])
    cut = cut_of(series.shape, series.zooms, series.affine, axis)
    return Pixels(cut.apply(volume.transpose(2, 1, 0, 3)), cut.spacing(series.zooms), series.affine, cut)


def depth_of_series(path: Path) -> int:
    """How many slices a series has; the header is read only where there is but one file."""
    files = dicom_files(path)
    return len(files) if len(files) > 1 else len(open_series(path).planes)


def is_series(folder: Path) -> bool:
    """Whether a folder's own DICOM files are slices of a patient, and not pictures (X-rays, photographs) of many."""
    first = next((path for path in image_files(folder) if path.is_file() and is_dicom(path)), None)
    return first is not None and any(plane.grid is not None for plane in planes_of(read_header(first), first))


def loose_slices(images: list[Path]) -> list[str]:
    """A line for each series of which several slices lie loose among `images`: one patient would count as many."""
    first: dict[str, Path] = {}
    problems: dict[str, str] = {}
    for path in images:
        series = _slice_of(path) if path.is_file() and is_dicom(path) else ""
        if series and first.setdefault(series, path) != path:
            problems[series] = (
                f"{path}: is a slice of the series that {first[series].name} belongs to; "
                "put the slices of each series into a folder of its own"
            )
    return list(problems.values())


def _slice_of(path: Path) -> str:
    """The UID of the series (or the frame of reference, where there is none) that a file is a slice of.

    "" where it is a picture by itself, or cannot be read.
    """
    try:
        header = read_header(path)
        with guarded(path):
            series = header.get("SeriesInstanceUID") or header.get("FrameOfReferenceUID") or ""
            return str(series) if header.get("ImagePositionPatient") else ""
    except UserError:  # who reads the image will say so
        return ""


def _need_image(header: Any, path: Path) -> None:
    """Raise UserError where a file holds no image, or one whose numbers cannot be shown."""
    with guarded(path):
        if class_of(header) == SEGMENTATION or "Rows" not in header:
            raise UserError(f"{path}: is no image ({kind_of(header)}); take it out of the images")
        if header.get("PhotometricInterpretation") not in _SHOWN:
            raise UserError(f"{path}: its colours are looked up in a palette, which is not read; save it as RGB")
        if "ModalityLUTSequence" in header:
            raise UserError(f"{path}: its numbers are looked up in a table, which is not read; save it with a slope")
    need_decoder(header, path)


def _need_alike(planes: list[Plane]) -> None:
    """Raise UserError where slices of one series differ in size, direction or spacing, or have no place."""
    import numpy as np

    first = planes[0]
    for plane in planes:
        if plane.grid is None or first.grid is None:
            bare = plane if plane.grid is None else first
            raise UserError(f"{bare}: does not say where in the patient it lies; give each picture a folder of its own")
        if plane.shape != first.shape:
            ours, theirs = ("x".join(map(str, shape)) for shape in (plane.shape, first.shape))
            raise UserError(
                f"{plane}: {ours} (rows x columns x samples) where {first.path.name} has {theirs}; take one kind out"
            )
        if np.abs(plane.grid[:3, :3] - first.grid[:3, :3]).max() > 1e-3:
            raise UserError(
                f"{plane}: has another orientation or pixel spacing than {first.path.name}; "
                "take it out (a localiser?), or give it a folder of its own"
            )


def _height(plane: Plane) -> float:
    """Where a slice lies along its own normal, mm."""
    return 0.0 if plane.grid is None else float(plane.grid[:3, 2] @ plane.grid[:3, 3])


def _single(plane: Plane) -> np.ndarray | None:
    """The affine of a series of one slice."""
    import numpy as np

    return None if plane.grid is None else plane.grid @ np.diag([1.0, 1.0, plane.depth or 1.0, 1.0])


def _evenly(ordered: list[Plane]) -> np.ndarray:
    """The affine of slices that all lie one step apart, to a twentieth of it; UserError where they do not."""
    import numpy as np

    grids = np.array([plane.grid for plane in ordered])
    origins = grids[:, :3, 3]
    steps = np.linalg.norm(np.diff(origins, axis=0), axis=1)
    for place in np.flatnonzero(np.diff([_height(plane) for plane in ordered]) < 1e-3):
        raise UserError(
            f"{ordered[place + 1]}: lies where {ordered[place].path.name} lies; "
            "take one out, or give each time point a folder of its own"
        )
    step = (origins[-1] - origins[0]) / (len(ordered) - 1)
    away = np.linalg.norm(origins - origins[0] - np.arange(len(ordered))[:, None] * step, axis=1)
    usual = float(np.median(steps))
    if away.max() > 0.05 * usual:
        worst = int(np.abs(steps - usual).argmax())
        raise UserError(
            f"{ordered[worst + 1]}: lies {steps[worst]:.4g} mm from {ordered[worst].path.name} where slices lie "
            f"{usual:.4g} mm apart; add the slices that are missing, or resample the series evenly"
        )
    affine: np.ndarray = grids[0].copy()
    affine[:3, 2] = step
    return affine


def _frames(path: Path) -> list[np.ndarray]:
    """The stored numbers of each frame of a file, (H, W) or (H, W, 3), white never zero."""
    import numpy as np
    from pydicom.pixels import iter_pixels

    header = read_header(path, pixels=True)
    with guarded(path):
        frames = list(iter_pixels(header))
        if header.PhotometricInterpretation == "MONOCHROME1":
            top = -1 if header.PixelRepresentation else 2 ** int(header.BitsStored) - 1
            frames = [(top - frame.astype(np.int64)).astype(frame.dtype) for frame in frames]
    return frames
