"""Images and masks as arrays, whatever file they come in: PNG, TIFF, JPEG, BMP, GIF, NIfTI, npy.

An EXIF orientation is ignored, in images and in masks alike: pixels are taken as they are stored, so that a mask drawn
on the stored pixels fits. Files are read whole; a file that cannot be is refused by name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from sammit.data.formats import PICTURES, SUFFIXES, VOLUMES, suffix_of
from sammit.data.pictures import labels, picture
from sammit.data.volumes import Cut, Spacing, cut_of, header_of, open_nifti, same_place
from sammit.errors import UserError

if TYPE_CHECKING:
    import numpy as np

T = TypeVar("T")


@dataclass(frozen=True)
class Pixels:
    """An image as its file has it.

    Attributes:
        array: (D, H, W, channels) uint8 or uint16 over the type's range, else float32 in the file's own unit.
        spacing: (slice, row, column) in mm, or None where the format has none.
        affine: (4, 4) voxel to world in mm, of the file's own axes; None where the format has none.
        cut: how the file's axes became (slice, row, column); None for a 2-D image.
    """

    array: np.ndarray
    spacing: Spacing | None = None
    affine: np.ndarray | None = None
    cut: Cut | None = None


def read_image(path: Path, axis: str = "auto") -> Pixels:
    """An image with three channels: (D, H, W, 3), maybe a read-only view; see `three_channels` for the rule.

    Args:
        path: a file of a known format.
        axis: which of a volume's axes is cut, see `volumes.slice_axis`.

    Raises:
        UserError: the file is missing, broken, or of no known format.
    """
    pixels = read_channels(path, axis)
    return Pixels(three_channels(pixels.array), pixels.spacing, pixels.affine, pixels.cut)


def read_channels(path: Path, axis: str = "auto") -> Pixels:
    """Like `read_image`, with the file's own number of channels (transparency dropped)."""
    return _guarded(path, lambda: _read(path, axis))


def read_mask(path: Path, like: Pixels | None = None, axis: str = "auto") -> np.ndarray:
    """A mask's labels: (D, H, W) int32.

    A JPEG mask is lossy and so two-valued by nature: it is cut at 127 to 0 and 1. An RGB mask with equal channels
    counts as grey; a palette with colours gives its indices.

    Args:
        path: a file of a known format.
        like: the image it belongs to, cut in the same way; a NIfTI mask must lie where the image lies.
        axis: which of a volume's axes is cut, where `like` does not say.

    Raises:
        UserError: broken file, coloured mask, fractions, or a mask that lies elsewhere than its image.
    """
    import numpy as np

    pixels = _guarded(path, lambda: _read(path, axis, like, truth=True))
    values = _one_channel(pixels.array, path)
    if suffix_of(path) in (".jpg", ".jpeg"):
        return (values > 127).astype(np.int32)
    if values.dtype.kind == "f":
        whole = np.rint(values)
        if not np.isfinite(values).all() or np.abs(values - whole).max(initial=0) > 1e-3:
            raise UserError(f"{path}: holds fractions where a mask needs whole numbers; save labels, 0 for background")
        values = whole
    return values.astype(np.int32)


def is_volume(path: Path) -> bool:
    """Whether a file holds a 3-D volume; looks at the header only."""
    if suffix_of(path) in PICTURES:
        return False
    return _guarded(path, lambda: _depth(path) > 1)


def three_channels(array: np.ndarray) -> np.ndarray:
    """(..., n) -> (..., 3): one is repeated (a view), two get their mean as third, of more the first three."""
    import numpy as np

    if array.shape[-1] == 1:
        return np.broadcast_to(array, (*array.shape[:-1], 3))
    if array.shape[-1] == 2:
        mean = array.mean(axis=-1, keepdims=True, dtype=np.float32).astype(array.dtype)
        return np.concatenate([array, mean], axis=-1)
    return array[..., :3]


def _guarded(path: Path, read: Callable[[], T]) -> T:
    """What `read` gives; whatever a decoder complains of becomes a line that names the file."""
    if not suffix_of(path):
        raise UserError(f"{path}: no known image format; known: {' '.join(SUFFIXES)}")
    try:
        return read()
    except (UserError, MemoryError):
        raise
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file; check the path") from None
    except Exception as error:  # decoders raise anything on broken bytes: OSError, struct.error, SyntaxError, ...
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path}: cannot be read ({reason}); restore the file or take it out") from error


def _read(path: Path, axis: str, like: Pixels | None = None, truth: bool = False) -> Pixels:
    suffix = suffix_of(path)
    if suffix in VOLUMES:
        return _nifti(path, axis, like)
    if suffix in PICTURES:
        return Pixels(_channels_last(labels(path) if truth else picture(path))[None])
    return _stack(path, axis, white=1 if truth else 255)


def _nifti(path: Path, axis: str, like: Pixels | None) -> Pixels:
    import numpy as np

    image = open_nifti(path)
    shape, zooms = header_of(image)
    values = np.asanyarray(image.dataobj).reshape(*shape, -1)
    cut = cut_of(shape, zooms, image.affine, axis)
    if like is not None and like.cut is not None and like.affine is not None:
        if not same_place(like.affine, image.affine, shape, zooms):
            raise UserError(
                f"{path}: lies elsewhere than its image (another affine); resample it onto the image, "
                "or copy the image's header where the voxels match already"
            )
        cut = like.cut
    return Pixels(_plain(cut.apply(values)), cut.spacing(zooms), image.affine, cut)


def _stack(path: Path, axis: str, white: int) -> Pixels:
    """A TIFF or npy file: (H, W), (H, W, channels), or a volume (D, H, W) or (D, H, W, channels).

    A last axis of up to four counts as channels; `white` is what True becomes.
    """
    import numpy as np

    array = _npy(path) if suffix_of(path) == ".npy" else _tiff(path)
    array = array.astype(np.uint8) * np.uint8(white) if array.dtype == bool else array
    if array.ndim == 2 or (array.ndim == 3 and array.shape[-1] <= 4):
        return Pixels(_plain(_channels_last(array))[None])
    if array.ndim not in (3, 4):
        raise UserError(f"{path}: has {array.ndim} axes; save an image (2 or 3 axes) or a volume (3 or 4)")
    cut = cut_of(array.shape[:3], (1.0, 0.0, 0.0), None, axis)
    return Pixels(_plain(cut.apply(array if array.ndim == 4 else array[..., None])), None, None, cut)


def _npy(path: Path, mmap_mode: Any = None) -> np.ndarray:
    import numpy as np

    array: np.ndarray = np.load(path, mmap_mode=mmap_mode, allow_pickle=False)
    return array


def _tiff(path: Path) -> np.ndarray:
    """The first series of a TIFF with its channels last; transparency dropped, white-is-zero turned."""
    import numpy as np
    from tifffile import PHOTOMETRIC, TiffFile

    with TiffFile(path) as file:
        series, page = file.series[0], file.pages.first
        array: np.ndarray = series.asarray()
        axes = series.axes
        if page.photometric == PHOTOMETRIC.MINISWHITE:
            array = ~array if array.dtype == bool else np.iinfo(array.dtype).max - array
        alpha = "S" in axes and page.samplesperpixel in (2, 4) and bool(page.extrasamples)
    channels = next((axis for axis in ("S", "C") if axis in axes), "")
    if channels:
        array = np.moveaxis(array, axes.index(channels), -1)
    return array[..., :-1] if alpha else array


def _depth(path: Path) -> int:
    if suffix_of(path) in VOLUMES:
        shape = header_of(open_nifti(path))[0]
        return min(shape)
    array_shape = _npy(path, "r").shape if suffix_of(path) == ".npy" else _tiff_shape(path)
    flat = len(array_shape) == 2 or (len(array_shape) == 3 and array_shape[-1] <= 4)
    return 1 if flat else array_shape[0]


def _tiff_shape(path: Path) -> tuple[int, ...]:
    from tifffile import TiffFile

    with TiffFile(path) as file:
        series = file.series[0]
        sizes = [size for size, axis in zip(series.shape, series.axes, strict=True) if axis not in "SC"]
        return tuple(sizes)


def _channels_last(array: np.ndarray) -> np.ndarray:
    """(H, W) or (H, W, n) -> (H, W, n), in one of the three types."""
    return _plain(array[..., None] if array.ndim == 2 else array)


def _plain(array: np.ndarray) -> np.ndarray:
    """bool -> 0 and 255; uint8 and uint16 in native byte order as they are; whatever else -> float32."""
    import numpy as np

    if not array.size:
        raise ValueError("it has no pixels")
    if array.dtype == bool:
        return array.astype(np.uint8) * np.uint8(255)
    if array.dtype.kind == "u" and array.dtype.itemsize <= 2:
        return array.astype(array.dtype.newbyteorder("="), copy=False)
    if array.dtype.kind not in "iuf":
        raise ValueError(f"numbers of type {array.dtype}")
    return array.astype(np.float32)


def _one_channel(array: np.ndarray, path: Path) -> np.ndarray:
    """(D, H, W, n) with equal channels -> (D, H, W); a coloured mask is refused: its meaning is unknown."""
    import numpy as np

    first = array[..., 0]
    slack = 48 if suffix_of(path) in (".jpg", ".jpeg") else 0  # lossy colour differs a little between channels
    for channel in range(1, array.shape[-1]):
        if np.abs(array[..., channel].astype(np.float32) - first).max(initial=0) > slack:
            raise UserError(f"{path}: is a coloured mask; save one whole number for each pixel, 0 for background")
    return first
