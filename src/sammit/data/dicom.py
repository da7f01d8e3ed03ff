"""DICOM headers: what a file is, and where in the patient each of its slices lies.

Messages name files and say nothing that identifies a patient or a study: names, dates and UIDs stay in the header.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sammit.data.formats import is_dicom
from sammit.errors import UserError

if TYPE_CHECKING:
    import numpy as np

SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
LABEL_MAP = "1.2.840.10008.5.1.4.1.1.66.7"  # younger than pydicom's dictionary
STRUCTURE_SET = "1.2.840.10008.5.1.4.1.1.481.3"

DRAWN = (SEGMENTATION, LABEL_MAP, STRUCTURE_SET)
"""What is drawn on an image, and is none."""

Look = Callable[[str, str], Any]
"""(sequence, keyword) -> the value for one slice, or None; a file of one slice has it without the sequence."""


@dataclass(frozen=True)
class Plane:
    """One slice: a whole file, or one frame of it.

    Attributes:
        path: the file.
        frame: which of its frames, from 0.
        shape: rows, columns and samples of a pixel.
        spacing: (row, column) in mm; None where the file does not say.
        grid: (4, 4) (column, row, mm along the normal) to world (right, anterior, superior) in mm; None for a picture
            that has no place in the patient.
        lacks: what the file would have to say for that, in words; "" where it has a place.
        depth: mm between slices or through one, as the file has it; 0 where it does not say.
        scale: slope and intercept from stored numbers to the image's unit.
        bits: stored bits of a pixel; negative where the numbers are signed.
        instance: the file's own UID, which segmentations refer to; never shown.
    """

    path: Path
    frame: int
    shape: tuple[int, int, int]
    spacing: tuple[float, float] | None
    grid: np.ndarray | None
    lacks: str
    depth: float
    scale: tuple[float, float]
    bits: int
    instance: str = field(repr=False)

    def __str__(self) -> str:
        return f"{self.path} (frame {self.frame + 1})" if self.frame else str(self.path)


@contextmanager
def unheard() -> Iterator[None]:
    """Warnings and log lines of DICOM libraries quote headers: none is let through."""
    logs = [logging.getLogger(name) for name in ("pydicom", "highdicom")]
    levels = [log.level for log in logs]
    for log in logs:
        log.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for log, level in zip(logs, levels, strict=True):
            log.setLevel(level)


@contextmanager
def guarded(path: Path) -> Iterator[None]:
    """Whatever pydicom complains of becomes a line that names the file, and quotes nothing from it."""
    from pydicom.errors import InvalidDicomError

    with unheard():
        try:
            yield
        except (UserError, MemoryError):
            raise
        except FileNotFoundError:
            raise UserError(f"{path}: there is no such file; check the path") from None
        except InvalidDicomError:
            raise UserError(f"{path}: is no DICOM file; restore it, or take it out of the folder") from None
        except Exception as error:  # a broken header raises anything, wherever it is looked at
            kind = type(error).__name__
            raise UserError(f"{path}: cannot be read as DICOM ({kind}); restore the file or take it out") from None


def read_header(path: Path, pixels: bool = False) -> Any:
    """A file's data set, without its pixels unless they are asked for.

    Raises:
        UserError: no DICOM file, or a broken one.
    """
    from pydicom import dcmread

    with guarded(path):
        header = dcmread(path, stop_before_pixels=not pixels, force=is_dicom(path))  # old files lack the mark
        if not class_of(header) and "Rows" not in header:
            raise UserError(f"{path}: is no DICOM file; restore it, or take it out of the folder")
        if "TransferSyntaxUID" not in header.file_meta:
            header.file_meta.TransferSyntaxUID = _syntax_of(header)
        return header


def _syntax_of(header: Any) -> Any:
    """The transfer syntax of a file that does not say it: as its header was written, uncompressed."""
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    implicit, little = header.original_encoding
    if implicit:
        return ImplicitVRLittleEndian
    return ExplicitVRLittleEndian if little else ExplicitVRBigEndian


def class_of(header: Any) -> Any:
    """The UID of a file's kind; "" where whoever took the names out took it too."""
    return header.get("SOPClassUID") or header.file_meta.get("MediaStorageSOPClassUID") or ""


def kind_of(header: Any) -> str:
    """What a file is, in DICOM's words: "CT Image Storage", "RT Structure Set Storage"."""
    kind = class_of(header)
    if kind == LABEL_MAP:
        return "Label Map Segmentation Storage"
    return str(kind.name) if kind and kind.name != kind else "of an unknown kind"


def frames_of(header: Any, path: Path) -> list[Look]:
    """How to look values up for each frame of a file; a file of one image has one.

    Raises:
        UserError: several frames of which the file does not say where they lie.
    """
    with guarded(path):
        count = int(header.get("NumberOfFrames") or 1)
        groups = header.get("PerFrameFunctionalGroupsSequence")
        shared = (header.get("SharedFunctionalGroupsSequence") or [{}])[0]
        if groups is None and count > 1:
            raise UserError(
                f"{path}: has {count} frames without a place each, as a film; save those that are needed as pictures"
            )
        if groups is not None and len(groups) != count:
            raise UserError(f"{path}: describes {len(groups)} frames and holds {count}; restore the file")
    if groups is None:
        return [lambda sequence, keyword: header.get(keyword)]
    return [_lookup(group, shared) for group in groups]


def _lookup(group: Any, shared: Any) -> Look:
    def look(sequence: str, keyword: str) -> Any:
        for holder in (group, shared):
            items = holder.get(sequence)
            value = items[0].get(keyword) if items else None
            if value is not None:
                return value
        return None

    return look


def planes_of(header: Any, path: Path) -> list[Plane]:
    """The slices of a file, in its own order.

    Raises:
        UserError: as `frames_of`; no image, or a header that lacks what a slice needs.
    """
    if "Rows" not in header:
        raise UserError(f"{path}: is no image ({kind_of(header)}); take it out of the images")
    looks = frames_of(header, path)
    with guarded(path):
        return [_plane(header, path, frame, look) for frame, look in enumerate(looks)]


def _plane(header: Any, path: Path, frame: int, look: Look) -> Plane:
    spacing = look("PixelMeasuresSequence", "PixelSpacing")
    depth = look("PixelMeasuresSequence", "SpacingBetweenSlices") or look("PixelMeasuresSequence", "SliceThickness")
    slope = look("PixelValueTransformationSequence", "RescaleSlope")
    intercept = look("PixelValueTransformationSequence", "RescaleIntercept")
    origin = look("PlanePositionSequence", "ImagePositionPatient")
    sides = look("PlaneOrientationSequence", "ImageOrientationPatient")
    said = {"position": origin, "orientation": sides, "pixel spacing": spacing}
    lacks = ", ".join(name for name, value in said.items() if not value)
    bits = int(header.get("BitsStored") or 0)
    return Plane(
        path=path,
        frame=frame,
        shape=(int(header.Rows), int(header.Columns), int(header.get("SamplesPerPixel") or 1)),
        spacing=(float(spacing[0]), float(spacing[1])) if spacing else None,
        grid=None if lacks else _grid(origin, sides, spacing, path),
        lacks=lacks,
        depth=abs(float(depth or 0)),
        scale=(1.0 if slope is None else float(slope), 0.0 if intercept is None else float(intercept)),
        bits=-bits if header.get("PixelRepresentation") else bits,
        instance=str(header.get("SOPInstanceUID") or header.file_meta.get("MediaStorageSOPInstanceUID") or ""),
    )


def _grid(origin: Any, sides: Any, spacing: Any, path: Path) -> np.ndarray:
    """See `Plane.grid`; DICOM's own world runs to the left and back, so both are turned."""
    import numpy as np

    along, down = np.array(sides, float).reshape(2, 3)  # along a row, from column to column; down a column
    upright = abs(along @ down) < 1e-2 and abs(along @ along - 1) < 1e-2 and abs(down @ down - 1) < 1e-2
    if not upright or min(spacing) <= 0 or not np.isfinite(np.array(origin, float)).all():
        raise UserError(f"{path}: its orientation, position or spacing cannot be right; restore the file")
    grid = np.eye(4)
    grid[:3, 0], grid[:3, 1] = along * float(spacing[1]), down * float(spacing[0])
    grid[:3, 2], grid[:3, 3] = np.cross(along, down), np.array(origin, float)
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ grid
