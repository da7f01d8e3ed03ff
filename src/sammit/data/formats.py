"""File names: which files are images, and what their stem is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

NIFTI = (".nii.gz", ".nii")
VOLUMES = (*NIFTI, ".nrrd")  # say where in the patient they lie
PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".gif")
STACKS = (".tif", ".tiff", ".npy")  # may hold one image or a volume
DICOM = (".dcm", ".dicom", ".ima")  # may also have no suffix, or lie in a folder, a file for each slice
SUFFIXES = (*VOLUMES, *PICTURES, *STACKS, *DICOM)

# how a DICOM file without preamble starts: one of the first tags, then its kind or a short length
_BARE = re.compile(rb"[\x02\x08]\x00[\x00\x01\x05\x08\x12\x16\x18]\x00(UL|OB|CS|UI|DA|[^\x00].\x00\x00)", re.DOTALL)
_WORD = re.compile(r"\.[A-Za-z][A-Za-z0-9_-]*")  # what a DICOM file that is named by its number does not end with


def suffix_of(path: Path) -> str:
    """The known suffix that a file's name ends with, in lower case (".nii.gz" whole); "" where there is none."""
    name = path.name.lower()
    return next((suffix for suffix in SUFFIXES if name.endswith(suffix)), "")


def stem_of(path: Path) -> str:
    """A name without its known suffix, or the whole of it: `scan.nii.gz` is `scan`, a folder `case.1` is `case.1`."""
    return path.name[: len(path.name) - len(suffix_of(path))]


def image_files(folder: Path) -> list[Path]:
    """The readable images of a folder, sorted by name: files, and folders of DICOM files.

    Hidden ones and what is no image are passed over.
    """
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if not path.name.startswith(".") and _is_image(path))


def is_dicom(path: Path) -> bool:
    """Whether a path is a DICOM file, by its suffix or else its content, or a folder that holds one."""
    if path.is_dir():
        return any(_is_dicom_file(file) for file in _candidates(path))
    return _is_dicom_file(path)


def dicom_files(path: Path) -> list[Path]:
    """The files of a DICOM series, sorted by path: the file itself, or all in a folder and in those below it.

    In a folder every file counts that could be DICOM, sound or not, so that a broken slice is never passed over: hidden
    files, `DICOMDIR` and those with the suffix of something else (`.txt`, `.json`) are.
    """
    return sorted(_candidates(path)) if path.is_dir() else [path]


def _is_image(path: Path) -> bool:
    return is_dicom(path) if path.is_dir() or not suffix_of(path) else True


def _candidates(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if not hidden and _named_like_dicom(path) and path.is_file():
            yield path


def _named_like_dicom(path: Path) -> bool:
    return suffix_of(path) in DICOM or (path.name != "DICOMDIR" and not _WORD.fullmatch(path.suffix))


def _is_dicom_file(path: Path) -> bool:
    if suffix_of(path) in DICOM:
        return True
    if not _named_like_dicom(path) or not path.is_file():
        return False
    with path.open("rb") as handle:
        head = handle.read(132)
    return head[128:] == b"DICM" or _BARE.match(head) is not None
