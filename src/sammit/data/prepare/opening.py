"""Raw files opened and checked; whatever is wrong becomes a line that names the file."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sammit.data.readers import read_channels
from sammit.errors import UserError

if TYPE_CHECKING:
    import numpy as np


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Turns whatever a decoder complains of into a UserError that names the file."""
    try:
        yield
    except (UserError, MemoryError):
        raise
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file; add it, or take out what refers to it") from None
    except Exception as error:  # decoders raise anything on broken bytes: EOFError, zlib.error, struct.error, ...
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path}: cannot be read ({reason}); fetch the file again or take it out") from error


def picture(path: Path) -> np.ndarray:
    """(H, W, n) pixels of a 2-D image; it is read whole, so that a file cut short is found."""
    array = read_channels(path).array
    if len(array) != 1:
        raise UserError(f"{path}: is a volume of {len(array)} slices where a picture belongs; put the right file there")
    pixels: np.ndarray = array[0]
    return pixels


def same_shape(labels: np.ndarray, shape: tuple[int, ...], mask: Path, image: Path) -> None:
    """Raises UserError unless labels have the shape of their image."""
    if labels.shape != shape:
        ours, theirs = ("x".join(map(str, size)) for size in (labels.shape, shape))
        raise UserError(f"{mask}: {ours} where its image {image.name} has {theirs}; put the right mask there")


def known_labels(values: np.ndarray, known: Collection[int], path: Path) -> np.ndarray:
    """Values of any type as uint8 labels, each of them one of `known`.

    Raises:
        UserError: a fraction or an unknown label.
    """
    import numpy as np

    strange = values[~np.isin(values, list(known))]
    if strange.size:
        expected = ", ".join(map(str, sorted(known)))
        raise UserError(f"{path}: holds the label {strange.min():g} where only {expected} are known; mend the mask")
    labels: np.ndarray = values.astype(np.uint8)
    return labels
