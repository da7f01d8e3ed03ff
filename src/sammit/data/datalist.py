"""datalist.json, or a dataset.json that lists its images, as of MONAI and the Decathlon.

Lists: "training", "validation", "test" or "testing", each of {"image": path or a path for each channel, "label": path,
"fold": number, "patient" or "subject": name}. Paths start from the list's folder. Where "validation" is not there, the
first fold is the val part. Test images without a label are passed over. `labels` names the structures.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from sammit.data.layouts import Found
from sammit.data.listing import Line, found_in, labels_of, plain_path, read_json
from sammit.data.settings import Settings
from sammit.errors import UserError
from sammit.vocabulary import Part

LISTS = True
_PARTS: dict[str, Part] = {"training": "train", "validation": "val", "test": "test", "testing": "test"}


def matches(folder: Path, settings: Settings) -> bool:
    """Whether the folder has a list. A dataset.json beside imagesTr is one only if the files are named as it says:

    nnU-Net's carry the number of their channel as well.
    """
    if (folder / "datalist.json").is_file():
        return True
    if not (folder / "dataset.json").is_file():
        return False
    try:
        table = read_json(folder / "dataset.json")
        lines = [line for line, _ in _lines(folder / "dataset.json", table, "training")]
    except UserError:
        return False
    return bool(lines) and (not (folder / "imagesTr").is_dir() or (folder / lines[0].image[0]).exists())


def cases_of(folder: Path, settings: Settings) -> Found:
    """The cases of all lists."""
    path = next(path for path in (folder / "datalist.json", folder / "dataset.json") if path.is_file())
    table = read_json(path)
    if not isinstance(table, dict) or not isinstance(table.get("training"), list):
        raise UserError(f'{path}: has no list \'training\'; write {{"training": [{{"image": ..., "label": ...}}]}}')
    listed = [pair for name in _PARTS for pair in _lines(path, table, name)]
    folds = sorted({fold for line, fold in listed if line.part == "train" and fold is not None})
    if not table.get("validation") and len(folds) > 1:
        listed = [(replace(line, part="val") if fold == folds[0] else line, fold) for line, fold in listed]
    lines = [line for line, _ in listed if line.masks or line.part != "test"]
    labels = table.get("labels")
    structures, ignore = labels_of(labels) if isinstance(labels, dict) else ({}, -1)
    return replace(found_in(folder, lines, settings, structures), ignore=ignore)


def _lines(path: Path, table: Any, name: str) -> Iterator[tuple[Line, int | None]]:
    """The entries of one list, and the fold of each."""
    entries = table.get(name) if isinstance(table, dict) else None
    for place, entry in enumerate(entries if isinstance(entries, list) else [], start=1):
        where = f"{path}: entry {place} of '{name}'"
        entry = {"image": entry} if isinstance(entry, str) else entry
        image = _paths(entry, "image")
        if not image:
            raise UserError(f'{where}: has no \'image\'; write {{"image": path, "label": path}}')
        fold, patient = entry.get("fold"), entry.get("patient", entry.get("subject", ""))
        line = Line(where, image, _paths(entry, "label"), str(patient), _PARTS[name])
        yield line, fold if isinstance(fold, int) else None


def _paths(entry: Any, key: str) -> tuple[str, ...]:
    """One path or several of an entry; () where there is none."""
    value = entry.get(key) if isinstance(entry, dict) else None
    values = value if isinstance(value, list) else [value]
    return tuple(plain_path(text) for text in values if isinstance(text, str) and text)
