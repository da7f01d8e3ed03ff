"""File names: which files are images, and what their stem is."""

from __future__ import annotations

from pathlib import Path

VOLUMES = (".nii.gz", ".nii")
PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".gif")
STACKS = (".tif", ".tiff", ".npy")  # may hold one image or a volume
SUFFIXES = (*VOLUMES, *PICTURES, *STACKS)


def suffix_of(path: Path) -> str:
    """The known suffix that a file's name ends with, in lower case (".nii.gz" whole); "" where there is none."""
    name = path.name.lower()
    return next((suffix for suffix in SUFFIXES if name.endswith(suffix)), "")


def stem_of(path: Path) -> str:
    """A file's name without its suffix; `scan.nii.gz` is `scan`."""
    return path.name[: len(path.name) - len(suffix_of(path))] if suffix_of(path) else path.stem


def image_files(folder: Path) -> list[Path]:
    """The readable files of a folder, sorted by name; hidden files and what is no image are passed over."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if suffix_of(path) and not path.name.startswith("."))
