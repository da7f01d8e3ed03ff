"""Folders of studies: which DICOM series lie in them, wherever their files are, and which of them is meant.

Names of cases are made of folders and numbers of series. UIDs, names and descriptions stay in the headers.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sammit.data.dicom import DRAWN, class_of, guarded, read_header
from sammit.data.formats import dicom_files, is_dicom, stem_of
from sammit.errors import UserError

log = logging.getLogger(__name__)

_UID = re.compile(r"[0-9.]{10,}")


@dataclass(frozen=True)
class Held:
    """A series, or a picture by itself, that a folder holds.

    Attributes:
        files: sorted by path.
        home: the deepest folder that all of them lie under.
        place: the file, or the folder that holds them and no other DICOM file; None where none does.
        modality: "CT", "MR", ...
        number: the series' own; "" where it has none.
        series, study: UIDs; never shown.
        description: what the scanner calls the series; never shown.
    """

    files: tuple[Path, ...]
    home: Path
    place: Path | None
    modality: str
    number: str
    series: str = field(repr=False)
    study: str = field(repr=False)
    description: str = field(repr=False)


def find_series(folder: Path) -> list[Held]:
    """The series under a folder, in the order of their first files.

    What holds no image (segmentations, dose, reports) is passed over, and so are localisers where there is anything
    else; a line of the log counts them.

    Raises:
        UserError: a file beside DICOM files is none, or broken.
    """
    kept: list[tuple[Path, Any]] = []
    localisers: list[tuple[Path, Any]] = []
    candidates = _candidates(folder)
    files = _beside_dicom(candidates)
    for file in files:
        header = read_header(file)
        with guarded(file):
            if _is_image(header):
                (localisers if "LOCALIZER" in (header.get("ImageType") or ()) else kept).append((file, header))
    kept = kept or localisers
    if len(kept) < len(files):
        count = len(files) - len(kept)
        log.info("%s: %d DICOM files without an image to segment are passed over (localisers, reports)", folder, count)
    groups: dict[str, list[tuple[Path, Any]]] = {}
    for file, header in kept:
        with guarded(file):
            groups.setdefault(_key(file, header), []).append((file, header))
    held = Counter(home for file in candidates for home in file.parents)
    return [_held(group, folder, held) for group in groups.values()]


def chosen(series: list[Held], wanted: str) -> list[Held]:
    """The series of each study that `wanted` names: by its UID, or by a part of its description, in whatever case.

    Raises:
        UserError: none does, or several of one study.
    """
    found = [held for held in series if held.series == wanted]
    found = found or [held for held in series if wanted.lower() in held.description.lower()]
    if not found:
        raise UserError(f"--series {_said(wanted)}: there is no such series, but {_listed(series)}")
    for held in found:
        same = [other for other in found if other.study == held.study]
        if len(same) > 1:
            raise UserError(
                f"--series {_said(wanted)}: fits {len(same)} series of one study ({_listed(same)}); "
                "write more of the description, or the series' UID"
            )
    missed = len({held.study for held in series} - {held.study for held in found})
    if missed:
        log.info("%d studies have no such series and are passed over", missed)
    return found


def names_of(series: list[Held], folder: Path) -> dict[str, Held]:
    """A name for each series: its folder's below `folder`, and its number where the folder holds several.

    Raises:
        UserError: two would have one name.
    """
    named: dict[str, Held] = {}
    for held in series:
        name = _name(held, [other for other in series if other.home == held.home], folder)
        if name in named:
            first, second = named[name].files[0], held.files[0]
            raise UserError(f"{second}: would have the same name as {first.name}; predict them into two folders")
        named[name] = held
    return named


def _name(held: Held, beside: list[Held], folder: Path) -> str:
    own = held.files[0] if held.place == held.files[0] else held.home
    *above, last = own.relative_to(folder).parts or (folder.resolve().name,)
    name = "-".join([*above, stem_of(Path(last))])
    if held.place is not None:
        return name
    numbers = [other.number for other in beside]
    told = all(numbers) and len(set(numbers)) == len(numbers)
    return f"{name}-series{held.number}" if told else f"{name}-{beside.index(held) + 1}"


def _candidates(folder: Path) -> list[Path]:
    """What could be DICOM under a folder, and under links in it to other folders."""
    linked = [path for path in folder.iterdir() if path.is_symlink() and path.is_dir() and path.name[0] != "."]
    return sorted({*dicom_files(folder), *(file for path in linked for file in dicom_files(path))})


def _beside_dicom(files: list[Path]) -> list[Path]:
    """The files of folders that hold DICOM; what a disc's other folders hold (`README`, `VERSION`) is none."""
    homes = {file.parent for file in files if is_dicom(file)}
    return [file for file in files if file.parent in homes]


def _is_image(header: Any) -> bool:
    return class_of(header) not in DRAWN and "Rows" in header and header.get("Modality") != "RTDOSE"


def _key(file: Path, header: Any) -> str:
    """What files of one series have in common; a picture without a place in the patient is one by itself."""
    if not _has_place(header):
        return str(file)
    return str(header.get("SeriesInstanceUID") or header.get("FrameOfReferenceUID") or file.parent)


def _has_place(header: Any) -> bool:
    return bool(header.get("ImagePositionPatient")) or "PerFrameFunctionalGroupsSequence" in header


def _held(group: list[tuple[Path, Any]], folder: Path, held: Mapping[Path, int]) -> Held:
    """A series of its files and headers; `held` counts the files under each folder that could be DICOM."""
    files, header = tuple(file for file, _ in group), group[0][1]
    home = _common(files)
    with guarded(files[0]):
        own = held[home] == len(files) and (home != folder or _has_place(header))
        return Held(
            files,
            home,
            home if own else files[0] if len(files) == 1 else None,
            str(header.get("Modality") or "image"),
            str(header.get("SeriesNumber") or ""),
            str(header.get("SeriesInstanceUID") or ""),
            str(header.get("StudyInstanceUID") or ""),
            str(header.get("SeriesDescription") or ""),
        )


def _common(files: Iterable[Path]) -> Path:
    """The deepest folder that all files lie under."""
    first, *others = [file.parent for file in files]
    return next(home for home in (first, *first.parents) if all(other.is_relative_to(home) for other in others))


def _said(wanted: str) -> str:
    """What the user wrote, unless it is a UID."""
    return "UID" if _UID.fullmatch(wanted.strip()) else f"'{wanted}'"


def _listed(series: list[Held]) -> str:
    """What may be told of series: modality, number, and how many files."""
    words = [f"{held.modality} series {held.number or '?'} of {len(held.files)} files" for held in series]
    return ", ".join(words[:8]) + (f" and {len(words) - 8} more" if len(words) > 8 else "")
