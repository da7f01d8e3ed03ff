"""2-D pictures through Pillow: PNG, JPEG, BMP, GIF; the quirks of their modes are met here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np


def picture(path: Path) -> np.ndarray:
    """A PNG, JPEG, BMP or GIF image: (H, W) or (H, W, 3), as stored."""
    import numpy as np

    if _deep_colour(path):
        return _deep_png(path)
    with _pillow(path) as image:
        if image.mode in ("P", "PA", "CMYK", "YCbCr", "HSV", "LAB", "RGBX"):
            image = image.convert("RGB")
        array: np.ndarray = np.asarray(image)
        return _without_alpha(array, image.mode)


def labels(path: Path) -> np.ndarray:
    """A mask from PNG, JPEG, BMP or GIF: (H, W) or (H, W, 3) numbers as stored."""
    import numpy as np

    if _deep_colour(path):
        return _deep_png(path)
    with _pillow(path) as image:
        if image.mode in ("P", "PA"):
            return _palette_labels(image)
        array: np.ndarray = np.asarray(image)
        return _without_alpha(array.astype(np.uint8) if array.dtype == bool else array, image.mode)


def _palette_labels(image: Any) -> np.ndarray:
    """Labels of a palette image: grey palettes mean their grey value, coloured ones their index."""
    import numpy as np

    index: np.ndarray = np.asarray(image if image.mode == "P" else image.getchannel(0))
    colours = np.array(image.getpalette("RGB"), dtype=np.uint8).reshape(-1, 3)
    used = np.unique(index)
    if (used < len(colours)).all() and (colours[used] == colours[used, :1]).all():
        grey: np.ndarray = colours[index, 0]
        return grey
    return index


@contextmanager
def _pillow(path: Path) -> Iterator[Any]:
    """An open image without Pillow's limit on size, which takes a slide of tissue for an attack."""
    from PIL import Image

    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        with Image.open(path) as image:
            yield image
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def _deep_colour(path: Path) -> bool:
    """Whether this is a PNG with 16 bits in several channels, which Pillow would cut to 8."""
    with path.open("rb") as handle:
        head = handle.read(26)
    return head[:4] == b"\x89PNG" and len(head) == 26 and head[24] == 16 and head[25] in (2, 4, 6)


def _deep_png(path: Path) -> np.ndarray:
    from imagecodecs import png_decode

    array: np.ndarray = png_decode(path.read_bytes())
    return array[..., :-1] if array.shape[-1] in (2, 4) else array


def _without_alpha(array: np.ndarray, mode: str) -> np.ndarray:
    return array[..., :-1] if mode in ("LA", "La", "RGBA", "RGBa") else array
