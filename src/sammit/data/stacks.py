"""TIFF and npy files, which may hold one image or a volume."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sammit.data.formats import suffix_of
from sammit.data.pixels import Pixels, channels_last, plain
from sammit.data.volumes import Cut, cut_of
from sammit.errors import UserError

if TYPE_CHECKING:
    import numpy as np


def stack(path: Path, axis: str, white: int, cut: Cut | None = None) -> Pixels:
    """A TIFF or npy file: (H, W), (H, W, channels), or a volume (D, H, W) or (D, H, W, channels).

    A last axis of up to four counts as channels; `white` is what True becomes. A volume is cut by `axis`, or as `cut`
    says, where that is given.
    """
    import numpy as np

    array = npy(path) if suffix_of(path) == ".npy" else _tiff(path)
    array = array.astype(np.uint8) * np.uint8(white) if array.dtype == bool else array
    if is_flat(array.shape):
        return Pixels(channels_last(array)[None])
    if array.ndim not in (3, 4):
        raise UserError(f"{path}: has {array.ndim} axes; save an image (2 or 3 axes) or a volume (3 or 4)")
    cut = cut or cut_of(array.shape[:3], (1.0, 0.0, 0.0), None, axis)
    return Pixels(plain(cut.apply(array if array.ndim == 4 else array[..., None])), None, None, cut)


def depth_of_stack(path: Path) -> int:
    """How many slices a TIFF or npy file holds, from its header."""
    shape = npy(path, "r").shape if suffix_of(path) == ".npy" else _tiff_shape(path)
    return 1 if is_flat(shape) else shape[0]


def is_flat(shape: tuple[int, ...]) -> bool:
    """Whether an array is one picture rather than a volume: a last axis of up to four counts as channels."""
    return len(shape) == 2 or (len(shape) == 3 and shape[-1] <= 4)


def npy(path: Path, mmap_mode: Any = None) -> np.ndarray:
    """The array of a npy file; with `mmap_mode` "r" only its header is read."""
    import numpy as np

    array: np.ndarray = np.load(path, mmap_mode=mmap_mode, allow_pickle=False)
    return array


def _tiff(path: Path) -> np.ndarray:
    """The picture or volume of a TIFF with its channels last; transparency dropped, white-is-zero turned."""
    import numpy as np
    from tifffile import PHOTOMETRIC, TiffFile

    with TiffFile(path) as file:
        alike, page = _alike(file), file.pages.first
        arrays = [series.asarray() for series in alike]
        array: np.ndarray = arrays[0] if len(arrays) == 1 else np.stack(arrays)
        axes = _axes(alike)
        if len(axes.replace("S", "").replace("C", "")) > 3:
            raise UserError(f"{path}: has the axes {axes}, several volumes in one file; save each as a file of its own")
        if page.photometric == PHOTOMETRIC.MINISWHITE:
            array = ~array if array.dtype == bool else np.iinfo(array.dtype).max - array
        alpha = "S" in axes and page.samplesperpixel in (2, 4) and bool(page.extrasamples)
    channels = next((axis for axis in ("S", "C") if axis in axes), "")
    if channels:
        array = np.moveaxis(array, axes.index(channels), -1)
    return array[..., :-1] if alpha else array


def _tiff_shape(path: Path) -> tuple[int, ...]:
    from tifffile import TiffFile

    with TiffFile(path) as file:
        alike = _alike(file)
        shape = alike[0].shape if len(alike) == 1 else (len(alike), *alike[0].shape)
        return tuple(size for size, axis in zip(shape, _axes(alike), strict=True) if axis not in "SC")


def _alike(file: Any) -> list[Any]:
    """The first series of a TIFF, and those that are pages like it; others are thumbnails and labels of a slide."""
    first, *others = file.series
    same = [series for series in others if (series.shape, series.dtype) == (first.shape, first.dtype)]
    return [first, *same]


def _axes(alike: list[Any]) -> str:
    """A letter for each axis, as tifffile names them."""
    axes: str = alike[0].axes
    return axes if len(alike) == 1 else "I" + axes
