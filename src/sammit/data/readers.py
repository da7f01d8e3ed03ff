"""Images and masks as arrays, whatever file they come in: PNG, TIFF, JPEG, BMP, GIF, NIfTI, NRRD, npy, DICOM.

An EXIF orientation is ignored, in images and in masks alike: pixels are taken as they are stored, so that a mask drawn
on the stored pixels fits. Files are read whole; a file that cannot be is refused by name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from sammit.data.formats import PICTURES, SUFFIXES, VOLUMES, is_dicom, suffix_of
from sammit.data.pictures import labels, picture
from sammit.data.pixels import Pixels, channels_last, plain, three_channels
from sammit.data.series import depth_of_series, read_series
from sammit.data.stacks import depth_of_stack, npy, stack
from sammit.data.volumes import cut_like, cut_of, header_of, open_volume
from sammit.errors import UserError

if TYPE_CHECKING:
    import numpy as np

T = TypeVar("T")


def read_image(path: Path, axis: str = "auto", uneven: str = "refuse") -> Pixels:
    """An image with three channels: (D, H, W, 3), maybe a read-only view; see `three_channels` for the rule.

    Args:
        path: a file of a known format, or a folder that holds one DICOM series.
        axis: which of a volume's axes is cut, see `volumes.slice_axis`.
        uneven: what becomes of DICOM slices that do not lie evenly, see `series.open_series`.

    Raises:
        UserError: the file is missing, broken, or of no known format.
    """
    pixels = read_channels(path, axis, uneven)
    return replace(pixels, array=three_channels(pixels.array))


def read_channels(path: Path, axis: str = "auto", uneven: str = "refuse") -> Pixels:
    """Like `read_image`, with the file's own number of channels (transparency dropped)."""
    return _guarded(path, lambda: _read(path, axis, uneven))


def read_mask(path: Path, like: Pixels | None = None, axis: str = "auto") -> np.ndarray:
    """A mask's labels: (D, H, W) int32.

    A JPEG mask is lossy and so two-valued by nature: it is cut at 127 to 0 and 1. An RGB mask with equal channels
    counts as grey; a palette with colours gives its indices.

    Args:
        path: a file of a known format but DICOM (see `segments`).
        like: the image it belongs to, cut in the same way. A NIfTI or NRRD mask must lie where an image with a place
            lies, its axes in whatever order; of an image of several slices with a place it must be one of them.
        axis: which of a volume's axes is cut, where `like` does not say.

    Raises:
        UserError: broken file, coloured mask, fractions, or a mask that lies elsewhere than its image.
    """
    import numpy as np

    pixels = _guarded(path, lambda: _read_truth(path, axis, like))
    values = _one_channel(pixels.array, path)
    if suffix_of(path) in (".jpg", ".jpeg"):
        return (values > 127).astype(np.int32)
    return _whole(values, path)


def read_layers(path: Path, like: Pixels) -> np.ndarray:
    """A npy mask with all its channels: (D, H, W, n) int32, on its own grid, which may be coarser than the image's.

    For a 2-D image (H, W) or (H, W, n); for a volume (D, H, W) or (D, H, W, n), cut as the image was.

    Raises:
        UserError: broken file, fractions, or a number of axes that does not fit the image.
    """
    import numpy as np

    if like.affine is not None and len(like.array) > 1:
        raise _placeless(path)
    array = _guarded(path, lambda: npy(path))
    cut = None if like.affine is not None else like.cut
    axes = 2 if cut is None else 3
    if array.ndim not in (axes, axes + 1) or not array.size:
        raise UserError(f"{path}: has {array.ndim} axes where its image needs a mask of {axes}, or one more: channels")
    array = array[..., None] if array.ndim == axes else array
    array = array[None] if cut is None else cut.apply(array)
    return _whole(array.astype(np.uint8) if array.dtype == bool else array, path)


def mask_channels(path: Path) -> int:
    """How many channels a npy mask (H, W) or (H, W, n) of a 2-D image has; only its header is read."""
    shape = _guarded(path, lambda: npy(path, "r").shape)
    return int(shape[2]) if len(shape) == 3 else 1


def _placeless(path: Path) -> UserError:
    return UserError(f"{path}: does not say where in the patient it lies, as its image does; save it as NIfTI or NRRD")


def _whole(values: np.ndarray, path: Path) -> np.ndarray:
    """Numbers of a mask as int32; raises UserError where they are no whole numbers."""
    import numpy as np

    if values.dtype.kind == "f":
        nearest = np.rint(values)
        if not np.isfinite(values).all() or np.abs(values - nearest).max(initial=0) > 1e-3:
            raise UserError(f"{path}: holds fractions where a mask needs whole numbers; save labels, 0 for background")
        values = nearest
    return values.astype(np.int32)


def is_volume(path: Path) -> bool:
    """Whether a file, or a folder of DICOM files, holds a 3-D volume; looks at no pixels."""
    if suffix_of(path) in PICTURES:
        return False
    return _guarded(path, lambda: _depth(path) > 1)


def _guarded(path: Path, read: Callable[[], T]) -> T:
    """What `read` gives; whatever a decoder complains of becomes a line that names the file."""
    if not suffix_of(path) and not is_dicom(path):
        if path.is_dir():
            raise UserError(f"{path}: is a folder without DICOM files; name an image, or a folder of one series")
        raise UserError(f"{path}: no known image format; known: {' '.join(SUFFIXES)}, and DICOM of any name")
    try:
        return read()
    except (UserError, MemoryError):
        raise
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file; check the path") from None
    except Exception as error:  # decoders raise anything on broken bytes: OSError, struct.error, SyntaxError, ...
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path}: cannot be read ({reason}); restore the file or take it out") from error


def _read(path: Path, axis: str, uneven: str) -> Pixels:
    if is_dicom(path):
        return read_series(path, axis, uneven)
    if suffix_of(path) in VOLUMES:
        return _placed(path, axis, None)
    if suffix_of(path) in PICTURES:
        return Pixels(channels_last(picture(path))[None])
    return stack(path, axis, white=255)


def _read_truth(path: Path, axis: str, like: Pixels | None) -> Pixels:
    """A mask's file, not yet brought to labels."""
    if suffix_of(path) in VOLUMES:
        return _placed(path, axis, like)
    if like is not None and like.affine is not None and len(like.array) > 1:
        raise _placeless(path)
    if suffix_of(path) in PICTURES:
        return Pixels(channels_last(labels(path))[None])
    return stack(path, axis, white=1, cut=None if like is None or like.affine is not None else like.cut)


def _placed(path: Path, axis: str, like: Pixels | None) -> Pixels:
    import numpy as np

    image = open_volume(path)
    shape, zooms = header_of(image)
    values = np.asanyarray(image.dataobj).reshape(*shape, -1)
    if like is None or like.cut is None or like.own_affine is None:
        cut = cut_of(shape, zooms, image.affine, axis)
        return Pixels(plain(cut.apply(values)), cut.spacing(zooms), image.affine, cut)
    own = cut_like(shape, zooms, image.affine, like.own_shape, like.own_affine, like.cut)
    if own is None:
        raise UserError(
            f"{path}: lies elsewhere than its image, or has another size; resample it onto the image, "
            "or copy the image's header where the voxels match already"
        )
    return replace(like, array=like.on_grid(plain(own.apply(values))))


def _depth(path: Path) -> int:
    if is_dicom(path):
        return depth_of_series(path)
    if suffix_of(path) in VOLUMES:
        return min(header_of(open_volume(path))[0])
    return depth_of_stack(path)


def _one_channel(array: np.ndarray, path: Path) -> np.ndarray:
    """(D, H, W, n) with equal channels -> (D, H, W); a coloured mask is refused: its meaning is unknown."""
    import numpy as np

    first = array[..., 0]
    if suffix_of(path) in VOLUMES and array.shape[-1] > 1:
        raise UserError(f"{path}: holds {array.shape[-1]} volumes where a mask is one; save one label for each voxel")
    slack = 48 if suffix_of(path) in (".jpg", ".jpeg") else 0  # lossy colour differs a little between channels
    for channel in range(1, array.shape[-1]):
        if np.abs(array[..., channel].astype(np.float32) - first).max(initial=0) > slack:
            raise UserError(f"{path}: is a coloured mask; save one whole number for each pixel, 0 for background")
    return first
