"""Optic disc and cup in colour fundus photographs: REFUGE, ORIGA, G1020 and Drishti-GS1, a site each.

A collection is the folder, anywhere below the raw copy or the copy itself, whose name has the collection's name in it;
REFUGE's unpacked archives (`Training400`, `Annotation-Training400`, ...) are known too. Read are:

- REFUGE: `Training400/{Glaucoma,Non-Glaucoma}/*.jpg`, `REFUGE-Validation400/*.jpg`, `Test400/*.jpg` with `*.bmp` under
  `.../Disc_Cup_Masks`, where 0 is the cup, 128 the rim and 255 the background (the paths of all 1,200 pairs and the
  meaning of the values were looked up in bob.ip.binseg, which lists them); or a repackaging with `Images` and `gts` or
  `Masks`;
- ORIGA: `Images/NNN.jpg` with `Masks/NNN.png` (0 background, 1 rim, 2 cup) as in the copies that go round, or with
  `Semi-automatic-annotations/NNN.mat`, variable `mask`, where there are no PNG masks;
- G1020: `Images/image_N.jpg` with `Masks/image_N.png`, coded like ORIGA's;
- Drishti-GS1: `{Training,Test}/Images/*.png` with `{GT,Test_GT}/STEM/SoftMap/STEM_{ODseg,cupseg}Softmap.png`: soft maps
  of four experts, 0, 64, 128, 191 and 255. In some copies they are a few pixels smaller than their images: up to 1 % of
  a side they are stretched onto them, and each case is noted;
- FedFMS's regrouping: `images` and `labels` in each, Drishti-GS1's maps flat in `labels`.

Cropped and square copies beside the originals are passed over. The masks written hold 0 background, 1 rim, 2 cup, and 3
where Drishti-GS1 has a cup outside the disc: the two maps are kept true. `disc` is the whole disc, cup included;
`disc=rim` gives the ring that FedFMS calls the disc.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from sammit.data.prepare.contract import Item, Option, Survey, words
from sammit.data.prepare.finding import by_key, files_under, partners, parts_below
from sammit.data.prepare.opening import known_labels, named, picture, same_shape
from sammit.data.prepare.pieces import Picture
from sammit.data.readers import read_mask
from sammit.errors import UserError

if TYPE_CHECKING:
    import numpy as np

SOURCE = (
    "REFUGE: https://refuge.grand-challenge.org/; ORIGA: no longer offered by its makers; "
    "G1020: https://arxiv.org/abs/2006.09158; "
    "Drishti-GS1: https://cvit.iiit.ac.in/projects/mip/drishti-gs/mip-dataset2/Home.php"
)
LICENCE = "each collection's own terms, accepted where it is fetched; for research"
CITATION = (
    "REFUGE: Orlando JI et al. REFUGE Challenge. Medical Image Analysis 59, 2020. ORIGA: Zhang Z et al. ORIGA-light. "
    "EMBC 2010. G1020: Bajwa MN et al. G1020. IJCNN 2020. Drishti-GS1: Sivaswamy J et al. Drishti-GS. ISBI 2014."
)
LAYOUT = "a folder each for REFUGE, ORIGA, G1020 or Drishti-GS1, as unpacked"
PARTS = ("training", "validation", "test")
OPTIONS = {
    "disc": Option("whole", "whole: the disc with its cup; rim: without it, as FedFMS has it", ("whole", "rim")),
    "refuge": Option("training,validation,test", "REFUGE's parts, with commas between", PARTS, True),
    "threshold": Option("128", "least value of Drishti-GS1's soft maps, 1 to 255: 128 is two of four experts"),
}
EXPECTED = {"REFUGE": 1200, "ORIGA": 650, "G1020": 1020, "Drishti-GS1": 101}  # as their papers say
FOLDERS = {
    "REFUGE": re.compile(r"refuge|^(annotation-)?(training|test|validation)400"),
    "ORIGA": re.compile(r"origa"),
    "G1020": re.compile(r"g1020"),
    "Drishti-GS1": re.compile(r"drishti"),
}
PASSED_OVER = re.compile(r".*_(cropped|square)|nerveremoved_images|.*illustration|avgboundary|amd")
OF_MASKS = re.compile(r"masks|labels|gts?|test_gt|disc_cup_masks|semi-automatic-annotations.*|.*-gt")
SOFT = re.compile(r"_(odseg|cupseg)softmap$", re.IGNORECASE)
IMAGES = (".jpg", ".jpeg", ".png")
SLACK = 0.01  # share of a side by which a soft map may miss its image


def survey(raw: Path, options: Mapping[str, str]) -> Survey:
    """The pairs of each collection."""
    rule = {"disc": [1, 2]} if options["disc"] == "whole" else {"rim": 1}
    found = Survey({"structures": {**rule, "cup": [2, 3]}}, EXPECTED)
    threshold = _threshold(options["threshold"])
    files: dict[str, list[Path]] = {}
    for path in files_under(raw):
        site = _collection(path, raw)
        if site and not any(PASSED_OVER.fullmatch(part) for part in parts_below(path, raw)):
            files.setdefault(site, []).append(path)
    for site, paths in files.items():
        if site == "Drishti-GS1":
            _soft_pairs(paths, raw, threshold, found)
        else:
            _label_pairs(site, paths, raw, words(options["refuge"]), found)
    return found


def _threshold(text: str) -> int:
    if not re.fullmatch(r"[0-9]+", text) or not 1 <= int(text) <= 255:
        raise UserError(f"--option threshold={text}: must be a whole number from 1 to 255")
    return int(text)


def _collection(path: Path, raw: Path) -> str | None:
    """The collection whose name is in that of a folder around a file; the raw copy's own name counts last."""
    own, *below = parts_below(path, raw)
    for part in (*below, own):
        for site, pattern in FOLDERS.items():
            if pattern.search(part):
                return site
    return None


def _label_pairs(site: str, paths: list[Path], raw: Path, parts: list[str], found: Survey) -> None:
    """Images with a label map each."""
    if site == "REFUGE":
        paths = [path for path in paths if _refuge_part(path) in parts]
    inside = {path: any(OF_MASKS.fullmatch(part) for part in parts_below(path, raw)) for path in paths}
    images = by_key([p for p in paths if not inside[p] and p.suffix.lower() in IMAGES], _stem, found.problems)
    masks = by_key(_best_masks([p for p in paths if inside[p]]), _stem, found.problems)
    taken = {*images.values(), *masks.values()}
    others = [path for path in paths if path not in taken and path.suffix.lower() != ".json"]
    coded = (0, 1, 2, 128, 255) if site == "REFUGE" else (0, 1, 2)
    for case, image, mask in partners(images, masks, others, found.problems):
        found.items.append(Item(site, case, partial(_read_labels, image, mask, coded)))


def _refuge_part(path: Path) -> str:
    """The part that the first letter of a name tells: V0001 and T0001, and g0001 and n0001 of the training set."""
    return {"v": "validation", "t": "test"}.get(path.name[0].lower(), "training")


def _best_masks(paths: list[Path]) -> list[Path]:
    """A mask of one kind for each stem: a repackaging may have the original BMP, PNG and MATLAB files side by side."""
    best: list[Path] = []
    for suffix in (".bmp", ".png", ".mat"):
        better = {path.stem for path in best}
        best += [path for path in paths if path.suffix.lower() == suffix and path.stem not in better]
    return best


def _soft_pairs(paths: list[Path], raw: Path, threshold: int, found: Survey) -> None:
    """Images with two soft maps each."""
    discs = by_key([path for path in paths if _soft_kind(path) == "odseg"], _eye, found.problems)
    cups = by_key([path for path in paths if _soft_kind(path) == "cupseg"], _eye, found.problems)
    pictures = [p for p in paths if p.suffix.lower() in IMAGES and not _soft_kind(p)]
    images = by_key([p for p in pictures if "images" in parts_below(p, raw)], _stem, found.problems)
    others = [path for path in paths if path not in {*images.values(), *discs.values(), *cups.values()}]
    for eye, image, disc in partners(images, discs, others, found.problems):
        if eye in cups:
            found.items.append(Item("Drishti-GS1", eye, partial(_read_soft, image, disc, cups[eye], threshold)))
        else:
            found.problems.append(f"{disc}: there is no soft map of the cup beside it; add {eye}_cupsegSoftmap.png")
    for eye in sorted(cups.keys() - discs.keys()):
        found.problems.append(f"{cups[eye]}: there is no soft map of the disc beside it; add {eye}_ODsegSoftmap.png")


def _stem(path: Path) -> str:
    return path.stem


def _soft_kind(path: Path) -> str:
    """Which of the two soft maps a file is, by its name; "" where it is none."""
    match = SOFT.search(path.stem)
    return match[1].lower() if match else ""


def _eye(path: Path) -> str:
    return SOFT.sub("", path.stem)


def _read_labels(image: Path, mask: Path, coded: tuple[int, ...]) -> Picture:
    """An image with its label map: 0 background, 1 rim, 2 cup."""
    import numpy as np

    shape = picture(image).shape[:2]
    values = _matlab(mask) if mask.suffix.lower() == ".mat" else read_mask(mask)[0]
    same_shape(values, shape, mask, image)
    inverse = bool((values > 2).any()) and 255 in coded  # REFUGE's own coding: 255 background, 128 rim, 0 cup
    labels = known_labels(values, (0, 128, 255) if inverse else (0, 1, 2), mask)
    if inverse:
        labels = np.select([labels == 0, labels == 128], [2, 1], 0).astype(np.uint8)
    return Picture(image, labels)


def _matlab(path: Path) -> np.ndarray:
    """ORIGA's own annotation: (H, W) numbers of the variable `mask`."""
    import numpy as np
    from scipy.io import loadmat

    with named(path):
        table = loadmat(path)
        if "mask" not in table:
            raise UserError(f"{path}: has no variable 'mask'; fetch the file again or take it out")
        return np.asarray(table["mask"])


def _read_soft(image: Path, disc: Path, cup: Path, threshold: int) -> Picture:
    """An image with what enough experts agree on: 0 background, 1 rim, 2 cup, 3 cup outside the disc."""
    import numpy as np

    shape = picture(image).shape[:2]
    soft = {path: read_mask(path)[0] for path in (disc, cup)}
    on_disc, on_cup = (_fitted(soft[path], shape, path, image) >= threshold for path in (disc, cup))
    labels = np.select([on_disc & on_cup, on_disc, on_cup], [2, 1, 3], 0).astype(np.uint8)
    small = [values.shape for values in soft.values() if values.shape != shape]
    notes = [f"soft map of {rows}x{columns} stretched to {shape[0]}x{shape[1]}" for rows, columns in small]
    return Picture(image, labels, tuple(notes))


def _fitted(soft: np.ndarray, shape: tuple[int, int], path: Path, image: Path) -> np.ndarray:
    """A soft map on the grid of its image, stretched where it misses it by a few pixels."""
    import numpy as np

    if any(abs(ours - theirs) > SLACK * theirs for ours, theirs in zip(soft.shape, shape, strict=True)):
        same_shape(soft, shape, path, image)
    rows, columns = ((np.arange(n) + 0.5) * size / n for n, size in zip(shape, soft.shape, strict=True))
    result: np.ndarray = soft[rows.astype(int)[:, None], columns.astype(int)]
    return result
