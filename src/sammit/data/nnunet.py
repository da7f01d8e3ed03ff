"""nnU-Net raw: dataset.json, imagesTr, labelsTr, maybe imagesTs, labelsTs, splits_final.json.

A case has a file for each channel (`NAME_0000.nii.gz`, `NAME_0001.nii.gz`). One channel is shown to the model three
times, of two the third is their mean, of more the first three are taken. The structures are the labels of
`dataset.json` but background; a list of labels is a region; `ignore` marks unlabelled pixels. Where `labelsTs` is
there, it is the test part; the first fold of `splits_final.json` says train and val.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from sammit.data.formats import image_files, stem_of
from sammit.data.layouts import Found
from sammit.data.listing import labels_of, read_json
from sammit.data.pairing import pair
from sammit.data.readers import is_volume
from sammit.data.settings import Settings
from sammit.errors import UserError
from sammit.vocabulary import Case, Part

_CHANNEL = re.compile(r"_[0-9]{4}$")


def matches(folder: Path, settings: Settings) -> bool:
    """Whether the folder has nnU-Net's description and training images."""
    return (folder / "dataset.json").is_file() and (folder / "imagesTr").is_dir()


def cases_of(folder: Path, settings: Settings) -> Found:
    """The cases of imagesTr, and of imagesTs where its labels are there."""
    table = read_json(folder / "dataset.json")
    structures, ignore = _labels(folder / "dataset.json", table.get("labels", {}))
    channels = len(table.get("channel_names", table.get("modality", {}))) or 1
    parts: dict[str, Part] = {}
    cases, problems = _cases(folder, "Tr", settings, channels)
    if (folder / "labelsTs").is_dir():
        test, more = _cases(folder, "Ts", settings, channels)
        parts.update((case.name, "test") for case in test)
        twice = {case.name for case in cases} & {case.name for case in test}
        problems += [f"{folder / 'imagesTs'}: case '{name}' is in imagesTr too; rename one" for name in sorted(twice)]
        cases, problems = cases + test, problems + more
    parts.update(_folds(folder, {case.name for case in cases} - set(parts)))
    return Found(sorted(cases, key=lambda case: case.name), problems, parts, structures, ignore)


def _labels(path: Path, labels: dict[str, Any]) -> tuple[dict[str, Any], int]:
    """The structures, and the label of unlabelled pixels (-1: none)."""
    structures, ignore = labels_of(labels)
    if not structures:
        raise UserError(f"{path}: names no label but the background; add them under 'labels'")
    return structures, ignore


def _cases(folder: Path, part: str, settings: Settings, channels: int) -> tuple[list[Case], list[str]]:
    """The cases of imagesTr ("Tr") or imagesTs ("Ts"), and what is wrong with their files."""
    groups: dict[str, list[Path]] = {}
    for path in image_files(folder / f"images{part}"):
        groups.setdefault(_CHANNEL.sub("", stem_of(path)), []).append(path)
    problems = [
        f"{files[0]}: case '{name}' has {len(files)} channel file(s) where dataset.json names {channels}; add or remove"
        for name, files in groups.items()
        if len(files) != channels
    ]
    sound = {name: files for name, files in groups.items() if len(files) == channels}
    labels = [path for path in image_files(folder / f"labels{part}") if stem_of(path) in sound or not problems]
    stems = {
        Path(files[0].parent, name + files[0].name[len(stem_of(files[0])) :]): name for name, files in sound.items()
    }
    pairs, stray = pair(list(stems), labels)
    cases = [_case(folder.name, stems[stem], sound[stems[stem]], mask, settings) for stem, mask in pairs]
    return cases, problems + stray


def _case(site: str, name: str, files: list[Path], mask: Path | None, settings: Settings) -> Case:
    masks = () if mask is None else (mask,)
    return Case(site, name, settings.patient(name), tuple(files), masks, is_volume(files[0]))


def _folds(folder: Path, known: set[str]) -> dict[str, Part]:
    """Train and val of the first fold, for the cases that are there."""
    path = folder / "splits_final.json"
    if not path.is_file():
        return {}
    folds = read_json(path)
    try:
        first = {"train": list(folds[0]["train"]), "val": list(folds[0]["val"])}
    except (LookupError, TypeError):
        raise UserError(f"{path}: must be a list of folds with 'train' and 'val'; restore or remove it") from None
    result: dict[str, Part] = {}
    result.update((name, "train") for name in first["train"] if name in known)
    result.update((name, "val") for name in first["val"] if name in known)
    return result
