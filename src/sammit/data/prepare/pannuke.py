"""PanNuke: tiles of 256x256 in three folds, as arrays of thousands of tiles that are never read whole.

`Fold 2/images/fold2/{images,types}.npy` and `Fold 2/masks/fold2/masks.npy`, or FedFMS's `PanNuke2/Images/...` and
`PanNuke2/Masks/masks.npy`. Images are (N, H, W, 3) floats of 0 to 255, masks (N, H, W, 6) whole numbers: five kinds of
nuclei, each with its own numbering, and the background, which is not looked at. Types are the organs' names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from sammit.data.prepare.contract import Item
from sammit.data.prepare.opening import named
from sammit.data.prepare.pieces import Picture
from sammit.errors import UserError, nearest

if TYPE_CHECKING:
    import numpy as np

ORGANS = (
    "Adrenal_gland", "Bile-duct", "Bladder", "Breast", "Cervix", "Colon", "Esophagus", "HeadNeck", "Kidney", "Liver",
    "Lung", "Ovarian", "Pancreatic", "Prostate", "Skin", "Stomach", "Testis", "Thyroid", "Uterus",
)  # fmt: skip
NAMES = ("images.npy", "types.npy", "masks.npy")
FOLD = re.compile(r"(?:fold|pannuke)[ _-]?([123])", re.IGNORECASE)

Choice = tuple[int, str]
"""A fold and an organ: what a site is here."""


def site_name(choice: Choice) -> str:
    """`pannuke2-adrenal-gland` for fold 2 and Adrenal_gland."""
    return f"pannuke{choice[0]}-{choice[1].lower().replace('_', '-')}"


def choice_of(text: str) -> Choice:
    """A fold and an organ from `2:Adrenal_gland`; raises UserError where it is another text."""
    fold, sign, organ = text.partition(":")
    if not sign or fold not in ("1", "2", "3"):
        raise UserError(f"--option pannuke: '{text}' must be FOLD:ORGAN, such as 2:Adrenal_gland")
    if organ not in ORGANS:
        raise UserError(f"--option pannuke: unknown organ '{organ}': {nearest(organ, list(ORGANS))}")
    return int(fold), organ


def is_part(path: Path) -> bool:
    """Whether a file's name is one of PanNuke's."""
    return path.name in NAMES


def tiles_of(paths: Iterable[Path], choices: list[Choice], problems: list[str]) -> list[Item]:
    """The tiles of the chosen folds and organs.

    Args:
        paths: PanNuke's files, wherever they lie.
        choices: what is wanted; folds that nobody asks for are not opened.
        problems: lines are added to it.
    """
    folds: dict[int, dict[str, Path]] = {}
    for path in paths:
        fold = _fold(path)
        if not fold:
            problems.append(f"{path}: no folder around it tells the fold; put it under 'Fold 1', 'Fold 2' or 'Fold 3'")
        elif folds.setdefault(fold, {}).setdefault(path.name, path) != path:
            problems.append(f"{path}: is there already ({folds[fold][path.name]}); remove one of them")
    items = []
    for fold in sorted(folds.keys() & {fold for fold, _ in choices}):
        try:
            items += _tiles_of_fold(fold, folds[fold], [organ for other, organ in choices if other == fold])
        except UserError as error:
            problems.append(str(error))
    return items


def _fold(path: Path) -> int:
    """The fold that the nearest telling folder names; 0 where none does."""
    return next((int(match[1]) for part in reversed(path.parts[:-1]) if (match := FOLD.search(part))), 0)


def _tiles_of_fold(fold: int, paths: Mapping[str, Path], organs: list[str]) -> list[Item]:
    """A fold's tiles of the chosen organs; raises UserError where an array is missing or of another form."""
    for name in NAMES:
        if name not in paths:
            other = next(iter(paths.values()))
            raise UserError(f"{other}: fold {fold} has no {name} beside it; add it or take the fold out")
    images, masks = (_mapped(paths[name], "uif", 4) for name in ("images.npy", "masks.npy"))
    types = _mapped(paths["types.npy"], "U", 1)
    for name, array, channels in (("images.npy", images, 3), ("masks.npy", masks, 6)):
        if array.shape[3] != channels:
            raise UserError(f"{paths[name]}: has {array.shape[3]} channels where {channels} belong; fetch it again")
        if array.shape[:3] != (len(types), *images.shape[1:3]):
            ours = "x".join(map(str, array.shape[:3]))
            theirs = "x".join(map(str, (len(types), *images.shape[1:3])))
            raise UserError(f"{paths[name]}: has {ours} tiles where its fold has {theirs}; fetch the fold again")
    for organ in sorted(set(types.tolist())):
        if organ not in ORGANS:
            raise UserError(f"{paths['types.npy']}: unknown organ '{organ}': {nearest(organ, list(ORGANS))}; mend it")
    return [
        Item(site_name((fold, organ)), f"fold{fold}-{index:04d}", partial(_read, images, masks, index, paths))
        for index, organ in enumerate(types.tolist())
        if organ in organs
    ]


def _mapped(path: Path, kinds: str, axes: int) -> np.ndarray:
    """An array that stays on the disk."""
    import numpy as np

    with named(path):
        array: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    if array.dtype.kind not in kinds or array.ndim != axes:
        wanted = "texts" if kinds == "U" else "numbers"
        raise UserError(
            f"{path}: holds {array.ndim} axes of type {array.dtype} where {axes} of {wanted} belong; fetch it again"
        )
    return array


def _read(images: np.ndarray, masks: np.ndarray, index: int, paths: Mapping[str, Path]) -> Picture:
    """One tile: pixels as uint8, nuclei as an instance map."""
    import numpy as np

    with named(paths["images.npy"]):
        pixels = np.asarray(images[index])
    with named(paths["masks.npy"]):
        kinds = np.asarray(masks[index, ..., :-1])
    if not np.isfinite(pixels).all() or pixels.min() < 0 or pixels.max() > 255:
        raise UserError(f"{paths['images.npy']}: tile {index} reaches beyond 0 to 255; fetch the file again")
    if not np.isfinite(kinds).all() or (kinds != np.rint(kinds)).any() or kinds.min() < 0:
        raise UserError(f"{paths['masks.npy']}: tile {index} holds other than whole numbers; fetch the file again")
    return Picture(np.rint(pixels).astype(np.uint8), instances(kinds))


def instances(kinds: np.ndarray) -> np.ndarray:
    """(H, W, n) maps of whole numbers, each with a numbering of its own -> (H, W) uint16, 1 to n without gaps.

    Where two maps claim a pixel, the first has it.
    """
    import numpy as np

    result = np.zeros(kinds.shape[:2], np.uint16)
    for kind in np.moveaxis(kinds, -1, 0):
        free = (kind > 0) & (result == 0)
        if free.any():
            result[free] = np.unique(kind[free], return_inverse=True)[1] + 1 + result.max()
    return result
