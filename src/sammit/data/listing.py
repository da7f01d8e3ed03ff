"""Cases that a file lists by their paths: what the layouts `datalist` and `manifest` share."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sammit.data.formats import stem_of
from sammit.data.layouts import Found
from sammit.data.readers import is_volume
from sammit.data.settings import Settings
from sammit.data.structures import numbered
from sammit.errors import UserError
from sammit.vocabulary import Case, Part


@dataclass(frozen=True)
class Line:
    """One case as a file lists it.

    Attributes:
        where: the file and the place in it, for messages.
        image: the paths of its channels, relative to the file's folder, or absolute.
        masks: likewise; empty where it has no truth.
        patient: "" where the file does not say.
        part: None where the file leaves it open.
    """

    where: str
    image: tuple[str, ...]
    masks: tuple[str, ...] = ()
    patient: str = ""
    part: Part | None = None


def found_in(folder: Path, lines: list[Line], settings: Settings, structures: Mapping[str, Any] | None = None) -> Found:
    """The cases that are listed, each named by its image's stem; where two share one, all are named by their paths.

    Args:
        folder: where the list lies.
        lines: what it lists.
        settings: of the site.
        structures: what the list itself names; where it names none and cases have several masks, they are numbered.
    """
    lines, problems = _sound(folder, lines)
    names = _names([line.image[0] for line in lines])
    cases, parts = [], {}
    for line, name in zip(lines, names, strict=True):
        image, masks = ([folder / text for text in texts] for texts in (line.image, line.masks))
        try:
            volume = is_volume(image[0])
        except UserError as error:
            problems.append(str(error))
            continue
        patient = line.patient or settings.patient(name)
        cases.append(Case(folder.name, name, patient, tuple(image), tuple(masks), volume))
        if line.part:
            parts[name] = line.part
    most = max((len(line.masks) for line in lines), default=1)
    return Found(sorted(cases, key=lambda case: case.name), problems, parts, structures or numbered(most))


def read_json(path: Path) -> Any:
    """What a JSON file holds; raises UserError where there is none or it cannot be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not a JSON file ({error}): mend or restore it") from None


def labels_of(labels: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
    """The structures of a dataset.json's `labels`, and the label of unlabelled pixels (-1: none).

    nnU-Net has names and their labels, a list being a region; the Medical Segmentation Decathlon has them turned about.
    """
    if all(isinstance(name, str) and name.isdigit() for name in labels):
        labels = {str(name): int(value) for value, name in labels.items()}
    ignore = labels.get("ignore", -1)
    structures = {name: value for name, value in labels.items() if name not in ("background", "ignore")}
    return structures, int(ignore[0] if isinstance(ignore, list) else ignore)


def plain_path(text: str) -> str:
    """A path as it was written on any system, with slashes."""
    return text.strip().replace("\\", "/")


def _sound(folder: Path, lines: Iterable[Line]) -> tuple[list[Line], list[str]]:
    """The lines whose files are there, and what is wrong with the others."""
    usual = Counter(len(line.masks) for line in lines if line.masks).most_common(1)
    sound, problems = [], []
    seen: dict[tuple[str, ...], Line] = {}
    for line in lines:
        lost = next((text for text in (*line.image, *line.masks) if not (folder / text).exists()), None)
        first = seen.setdefault(line.image, line)
        if lost is not None:
            problems.append(f"{line.where}: there is no {folder / lost}; mend the path")
        elif first is not line:
            problems.append(f"{line.where}: lists {line.image[0]} again; remove one")
        elif line.masks and len(line.masks) != usual[0][0]:
            problems.append(
                f"{line.where}: has {len(line.masks)} mask(s) where others have {usual[0][0]}; one for each structure"
            )
        else:
            sound.append(line)
    return sound, problems


def _names(images: list[str]) -> list[str]:
    stems = [stem_of(Path(image)) for image in images]
    if len(set(stems)) == len(stems):
        return stems
    parts = [[part for part in Path(image).parts if part not in ("/", "..")] for image in images]
    return ["_".join([*folders, stem_of(Path(last))]) for *folders, last in parts]
