"""DICOM files that lie side by side: slices of one patient, or pictures of many."""

from __future__ import annotations

from pathlib import Path

from sammit.data.dicom import guarded, planes_of, read_header
from sammit.data.formats import image_files, is_dicom
from sammit.errors import UserError


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
