"""FedFMS's arrays: data_npy, label_npy, maybe val_data_npy, val_label_npy.

Paired by file name. Images are (H, W, 3), 0 to 255; labels (h, w, C) with a structure in each channel, on a grid that
may be coarser than the image's by a whole factor (FedFMS: 256 under 1024): each of their pixels is repeated. Channel 1
is label 1, and so on; one channel alone keeps its labels. The `val_` folders are the val part; the test part is drawn
from the rest. In FedFMS's fundus data channel 1 is the disc's rim without the cup: the disc is `[1, 2]`.
"""

from __future__ import annotations

from pathlib import Path

from sammit.data.formats import stem_of
from sammit.data.layouts import Found
from sammit.data.readers import is_volume, mask_channels
from sammit.data.settings import Settings
from sammit.data.structures import numbered
from sammit.errors import UserError
from sammit.vocabulary import Case, Part


def matches(folder: Path, settings: Settings) -> bool:
    """Whether the folder has arrays of images and of labels."""
    return (folder / "data_npy").is_dir() and (folder / "label_npy").is_dir()


def cases_of(folder: Path, settings: Settings) -> Found:
    """The pairs of both parts."""
    train, problems = _cases(folder, "", settings)
    val, more = _cases(folder, "val_", settings)
    problems += more
    twice = {case.name for case in train} & {case.name for case in val}
    problems += [f"{folder / 'val_data_npy' / name}.npy: is in data_npy too; remove one" for name in sorted(twice)]
    cases = sorted([*train, *(case for case in val if case.name not in twice)], key=lambda case: case.name)
    count, odd = _channels(cases)
    parts: dict[str, Part] = {case.name: "train" for case in train}
    parts.update((case.name, "val") for case in val)
    return Found(cases, problems + odd, parts, numbered(count))


def _cases(folder: Path, prefix: str, settings: Settings) -> tuple[list[Case], list[str]]:
    """The cases of a part ("" or "val_"), and what is wrong with their files."""
    images, labels = _arrays(folder / f"{prefix}data_npy"), _arrays(folder / f"{prefix}label_npy")
    problems = [
        f"{labels[name]}: there is no image {name} in {prefix}data_npy; add it or remove the label"
        for name in labels
        if name not in images
    ]
    cases = []
    for name, image in images.items():
        masks = (labels[name],) if name in labels else ()
        try:
            cases.append(Case(folder.name, stem_of(image), settings.patient(stem_of(image)), (image,), masks))
            if is_volume(image):
                raise UserError(f"{image}: is no image (H, W, 3) but a volume; put volumes into images/ and masks/")
        except UserError as error:
            problems.append(str(error))
            cases.pop()
    return cases, problems


def _arrays(folder: Path) -> dict[str, Path]:
    """The arrays of a folder by file name, sorted; none where there is no folder."""
    return {path.name: path for path in sorted(folder.glob("*.npy")) if not path.name.startswith(".")}


def _channels(cases: list[Case]) -> tuple[int, list[str]]:
    """How many channels the labels have, and a line for each file that has another number than the first."""
    problems: list[str] = []
    first, count = "", 1
    for path in (mask for case in cases for mask in case.masks):
        try:
            channels = mask_channels(path)
        except UserError as error:
            problems.append(str(error))
            continue
        first, count = (first, count) if first else (path.name, channels)
        if channels != count:
            problems.append(f"{path}: has {channels} channel(s) where {first} has {count}; save a channel a structure")
    return count, problems
