"""Masks that any tool made, found in a folder by the names of the images they belong to, and read onto those."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sammit.data.formats import image_files, is_dicom, stem_of
from sammit.data.pairing import owner
from sammit.data.readers import read_channels
from sammit.data.segments import labels_of
from sammit.data.site import Site
from sammit.data.truth import read_truth
from sammit.errors import UserError
from sammit.vocabulary import Case

if TYPE_CHECKING:
    import numpy as np

_ENDS = ("", "_seg", ".seg")  # what may follow the image's stem in the name of a label map; the last is 3D Slicer's


@dataclass(frozen=True)
class Masks:
    """The masks of one case.

    Attributes:
        whole: a label map, or a DICOM SEG; None where there is none.
        parts: structure -> its own mask.
    """

    whole: Path | None = None
    parts: dict[str, Path] = field(default_factory=dict)

    def lacks(self, structures: Iterable[str]) -> list[str]:
        """The structures that nothing here speaks of; a label map, whose numbers say it, speaks of all."""
        if self.whole is None:
            return [name for name in structures if name not in self.parts]
        named = _named_in(self.whole, structures)
        return [name for name in structures if name not in named] if named else []


def masks_in(folder: Path, cases: list[Case], structures: tuple[str, ...]) -> dict[str, Masks]:
    """The masks of each case that has some.

    `STEM_STRUCTURE` is one structure wherever it is above 0, as `sammit predict` writes it; `STEM`, `STEM_seg` or
    `STEM.seg` is a label map, read by the rules of the truth; a DICOM SEG may continue the stem in any way. Of a case
    that has masks of single structures the rest is passed over, and so is what belongs to no case.

    Raises:
        UserError: no such folder, or two files for one mask.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder; name the folder of the masks with --masks")
    parts = {f"{case.name}_{name}": (case.name, name) for case in cases for name in structures}
    wholes = {f"{case.name}{end}": case.name for case in cases for end in _ENDS}
    known = {case.name: folder for case in cases}
    found: dict[tuple[str, str], Path] = {}
    for path in image_files(folder):
        stem = stem_of(path)
        whole = wholes.get(stem) or (owner(stem, known) if is_dicom(path) else None)
        if stem not in parts and whole is None:
            continue
        first = found.setdefault(parts.get(stem) or (whole or "", ""), path)
        if first != path:
            raise UserError(f"{path}: says the same as {first.name}; take one of them out")
    for path in (folder / name for name in parts if (folder / name).is_dir() and not is_dicom(folder / name)):
        raise UserError(f"{path}: is a folder of pictures, which say nothing of their place; predict NIfTI or NRRD")
    return _gathered(found)


def _gathered(found: dict[tuple[str, str], Path]) -> dict[str, Masks]:
    """Masks by case, of files by case and structure; "" stands for all structures."""
    gathered: dict[str, Masks] = {}
    for case in {case for case, _ in found}:
        parts = {name: path for (own, name), path in found.items() if own == case and name}
        gathered[case] = Masks(None, parts) if parts else Masks(found[case, ""])
    return gathered


def read_masks(masks: Masks, case: Case, site: Site) -> np.ndarray:
    """(D, H, W, C) bool on the case's image; a structure that nothing speaks of is empty.

    Raises:
        UserError: a mask is broken, lies elsewhere than its image, or its structures cannot be told apart.
    """
    import numpy as np

    config = site.settings.config
    like = read_channels(case.image[0], config.axis, config.uneven)
    found = np.zeros((*like.array.shape[:3], len(site.structures)), bool)
    for path, rules, ignore in _rules(masks, site):
        settings = replace(site.settings, config=replace(config, structures=rules), ignore=ignore)
        layers = read_truth(replace(case, masks=(path,)), like, settings).layers
        for structure, layer in zip(settings.structures, layers, strict=True):
            found[..., site.structures.index(structure.name)] = layer
    return found


def _rules(masks: Masks, site: Site) -> list[tuple[Path, dict[str, Any], int]]:
    """For each file the structures in it by their rules, and the label of pixels that it says nothing of."""
    if masks.whole is None:  # 255 is a mask's white, whatever it means in the truth
        return [(path, {name: "> 0"}, -1) for name, path in masks.parts.items()]
    named = {name: f"segment {name}" for name in _named_in(masks.whole, site.structures)}
    return [(masks.whole, named or dict(site.settings.config.structures), site.settings.ignore)]


def _named_in(path: Path, structures: Iterable[str]) -> list[str]:
    """The structures that a DICOM SEG has segments of by their name; none of any other file."""
    labels = labels_of(path) if is_dicom(path) else set()
    return [name for name in structures if name.strip().lower() in labels]
