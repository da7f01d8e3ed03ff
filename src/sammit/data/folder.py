"""images/ beside masks/ or labels/, paired by stem.

The folders' names may be set (`data.images`, `data.masks`). 2-D images of any known format, or volumes; a folder of
DICOM files is one image, or one mask.
"""

from __future__ import annotations

from pathlib import Path

from sammit.data.formats import image_files, is_dicom, stem_of
from sammit.data.layouts import Found
from sammit.data.loose import loose_slices
from sammit.data.pairing import pair
from sammit.data.readers import is_volume
from sammit.data.settings import Settings
from sammit.errors import UserError
from sammit.vocabulary import Case


def matches(folder: Path, settings: Settings) -> bool:
    """Whether the folder has a folder of images."""
    return (folder / (settings.config.images or "images")).is_dir()


def cases_of(folder: Path, settings: Settings) -> Found:
    """The pairs of a site; images without a mask are cases without truth."""
    images = image_files(folder / (settings.config.images or "images"))
    pairs, problems = pair(images, image_files(_masks(folder, settings)))
    problems += loose_slices(images) + _bare_folders(folder / (settings.config.images or "images"))
    if not images:
        problems.append(f"{folder / (settings.config.images or 'images')}: holds no image of a known format")
    cases = []
    for image, mask in pairs:
        try:
            volume = is_volume(image)
        except UserError as error:
            problems.append(str(error))
            continue
        name = stem_of(image)
        cases.append(Case(folder.name, name, settings.patient(name), (image,), () if mask is None else (mask,), volume))
    return Found(sorted(cases, key=lambda case: case.name), problems)


def _bare_folders(images: Path) -> list[str]:
    """A line for each folder among the images that holds no series, for a case would be lost in silence."""
    folders = [path for path in sorted(images.iterdir()) if path.is_dir() and path.name[0] not in "._"]
    return [
        f"{path}: is a folder without DICOM files; put the slices of one series into it, or remove it"
        for path in folders
        if not is_dicom(path)
    ]


def _masks(folder: Path, settings: Settings) -> Path:
    """The folder of masks; one that does not exist where there is none."""
    if settings.config.masks:
        return folder / settings.config.masks
    return folder / ("masks" if (folder / "masks").is_dir() else "labels")
