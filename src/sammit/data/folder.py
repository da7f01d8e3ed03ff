"""images/ beside masks/ or labels/, paired by stem.

The folders' names may be set (`data.images`, `data.masks`). 2-D images of any known format, or volumes; a folder of
DICOM files is one image, or one mask.
"""

from __future__ import annotations

from pathlib import Path

from sammit.data.formats import image_files, stem_of
from sammit.data.layouts import Found
from sammit.data.pairing import pair
from sammit.data.readers import is_volume
from sammit.data.series import loose_slices
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
    problems += loose_slices(images)
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


def _masks(folder: Path, settings: Settings) -> Path:
    """The folder of masks; one that does not exist where there is none."""
    if settings.config.masks:
        return folder / settings.config.masks
    return folder / ("masks" if (folder / "masks").is_dir() else "labels")
