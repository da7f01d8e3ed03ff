"""A case's masks as what is to be learnt: a map for each structure, and which pixels anybody labelled."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from sammit.data.drawings import drawings
from sammit.data.formats import VOLUMES, is_dicom, suffix_of
from sammit.data.pixels import Pixels
from sammit.data.readers import read_layers, read_mask
from sammit.data.settings import Settings
from sammit.data.structures import Piece, Structure
from sammit.errors import UserError
from sammit.vocabulary import Case

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Truth:
    """What is known of a case's pixels.

    Attributes:
        layers: (D, H, W) bool for each structure.
        labelled: (D, H, W) bool, False where nobody looked.
    """

    layers: list[np.ndarray]
    labelled: np.ndarray


def read_truth(case: Case, like: Pixels, settings: Settings) -> Truth:
    """The truth of a case: one label map, or pieces that may overlap (see `structures`).

    Pieces are the segments of a DICOM SEG, the regions of an RT structure set, the channels of a npy mask, and the
    files of a case with several masks, each of which is one structure wherever it is above 0. Where there is no mask,
    no pixel is labelled.

    Args:
        case: whose.
        like: its image (the first file's) as it was read.
        settings: which structures there are, and which label marks unlabelled pixels.

    Raises:
        UserError: a broken file, a mask that does not fit its image, or structures that the mask cannot tell apart.
    """
    import numpy as np

    shape = like.array.shape[:3]
    if not case.masks:
        return Truth([np.zeros(shape, bool)] * len(settings.structures), np.zeros(shape, bool))
    if len(case.masks) > 1:
        _need_numbers(settings.structures, len(case.masks), case.masks[0], "masks")
        return _of_pieces(_files(case, like, settings), settings, shape)
    path = case.masks[0]
    if is_dicom(path):
        pieces = _drawings(path, case, like, settings)
        return _of_pieces(_named(pieces, settings.structures, path), settings, shape)
    labels = _labels(path, case, like)
    if labels.shape[-1] > 1:
        _need_numbers(settings.structures, labels.shape[-1], path, "channels")
        return _of_pieces(_channels(labels), settings, shape)
    return _of_labels(labels[..., 0], settings, path)


def _of_labels(labels: np.ndarray, settings: Settings, path: Path) -> Truth:
    for structure in settings.structures:
        if structure.segments:
            raise UserError(f"{path}: has numbers and no named segments; give '{structure.name}' its number")
    labelled = labels != settings.ignore
    return Truth([structure.of(labels) & labelled for structure in settings.structures], labelled)


def _of_pieces(pieces: Iterable[Piece], settings: Settings, shape: tuple[int, ...]) -> Truth:
    import numpy as np

    layers, labelled = [np.zeros(shape, bool) for _ in settings.structures], np.ones(shape, bool)
    for piece in pieces:
        picking = [layer for layer, s in zip(layers, settings.structures, strict=True) if s.picks(piece)]
        if not picking and piece.number != settings.ignore:
            continue
        mask = piece.draw()
        for layer in picking:
            layer |= mask
        if piece.number == settings.ignore:
            labelled &= ~mask
    return Truth([layer & labelled for layer in layers], labelled)


def _need_numbers(structures: tuple[Structure, ...], count: int, path: Path, what: str) -> None:
    """Raise UserError where structures do not name pieces 1 to `count`: "> 0" for each would make them all alike."""
    rules = [(structure.compare, structure.values) for structure in structures]
    for place, structure in enumerate(structures):
        beyond = [value for value in structure.values if not 0 < value <= count]
        if structure.segments or (structure.compare == "in" and beyond) or rules[place] in rules[:place]:
            raise UserError(
                f"{path}: has {count} {what}, numbered from 1; write in [structures] which of them "
                f"'{structure.name}' is, as in: rim = 1, cup = 2, disc = [1, 2]"
            )


def _named(pieces: Iterator[Piece], structures: tuple[Structure, ...], path: Path) -> Iterator[Piece]:
    """The segments as they come. A patient may lack some, but where none is a structure's, a rule is misspelt."""
    known = []
    picked = False
    for piece in pieces:
        known.append(f"{piece.number} '{piece.name}'")
        picked |= any(structure.picks(piece) for structure in structures)
        yield piece
    if not picked:
        raise UserError(f"{path}: has no segment of any structure, but {', '.join(known) or 'none'}; mend [structures]")


def _channels(labels: np.ndarray) -> Iterator[Piece]:
    import numpy as np

    for channel in range(labels.shape[-1]):
        yield Piece(channel + 1, "", partial(np.greater, labels[..., channel], 0))


def _files(case: Case, like: Pixels, settings: Settings) -> Iterator[Piece]:
    """One piece for each file of a case; of a DICOM file, all its pieces together."""
    import numpy as np

    for number, path in enumerate(case.masks, start=1):
        mask = _whole_file(path, case, like, settings)  # now: a broken file is told of, whoever needs it
        yield Piece(number, "", partial(np.asarray, mask))


def _whole_file(path: Path, case: Case, like: Pixels, settings: Settings) -> np.ndarray:
    """(D, H, W) bool: wherever a file says anything."""
    import numpy as np

    if not is_dicom(path):
        return np.asarray((_labels(path, case, like) > 0).any(axis=-1))
    mask = np.zeros(like.array.shape[:3], bool)
    for piece in _drawings(path, case, like, settings):
        mask |= piece.draw()
    return mask


def _drawings(path: Path, case: Case, like: Pixels, settings: Settings) -> Iterator[Piece]:
    if not is_dicom(case.image[0]):
        raise UserError(f"{path}: is DICOM where its image is not; give the DICOM series as image, or a NIfTI mask")
    return drawings(path, case.image[0], like, settings.config.uneven)


def _labels(path: Path, case: Case, like: Pixels) -> np.ndarray:
    """(D, H, W, n) int32 on the image's grid; more than one channel only of npy files."""
    image, shape = case.image[0], like.array.shape[:3]
    labels = read_layers(path, like) if suffix_of(path) == ".npy" else read_mask(path, like)[..., None]
    if is_dicom(image) and like.cut is not None and suffix_of(path) not in VOLUMES:
        labels = like.cut.apply(labels.transpose(2, 1, 0, 3))  # drawn on the picture as it is stored
    if suffix_of(path) == ".npy":
        labels = _repeated(labels, shape)
    if labels.shape[:3] != shape:
        raise UserError(
            f"{path}: {size(labels)} where its image {image.name} has {'x'.join(map(str, shape))}; "
            "save the mask on the image's grid"
        )
    return labels


def _repeated(labels: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Labels on a grid coarser than the image's by whole factors, brought to the image's; others as they are."""
    rows, columns = (max(1, wanted // had) for wanted, had in zip(shape[1:3], labels.shape[1:3], strict=True))
    if (labels.shape[1] * rows, labels.shape[2] * columns) != tuple(shape[1:3]):
        return labels
    return labels.repeat(rows, axis=1).repeat(columns, axis=2)


def size(array: np.ndarray) -> str:
    """How large a (D, H, W, ...) array is, in words."""
    return "x".join(map(str, array.shape[:3])) + " (slices x rows x columns)"
