"""An image file as an exported Sammit model was trained to see it; needs numpy, pillow for PNG, nibabel for NIfTI."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def read(path: Path, how: dict[str, Any]) -> tuple[Array, Any]:
    """The image as (D, H, W, 3) uint8 or uint16 over the full range, and the NIfTI file, if it is one."""
    volume = None
    if not path.is_file():
        sys.exit(f"{path}: there is no such file")
    if path.name.lower().endswith((".nii", ".nii.gz")):
        import nibabel

        volume = nibabel.load(path)
        values = np.asanyarray(volume.dataobj).reshape(*(*volume.shape[:3], 1)[:3], -1)
        order, flips = cut(volume, how["axis"])
        values = values.transpose(*order, 3)[flips]
    elif path.suffix.lower() in (".png", ".jpg", ".jpeg", ".bmp", ".gif"):
        values = picture(path)
    else:
        sys.exit(f"{path}: this script reads PNG, JPEG, BMP, GIF and NIfTI; use sammit predict for others")
    if values.dtype == bool:
        values = values.astype(np.uint8) * np.uint8(255)
    if values.dtype not in (np.uint8, np.uint16):
        values = values.astype(np.float32)
    values = full_range(values, how["window"], how["intensity"])
    values = values[..., how["channels"]] if how["channels"] else values
    if values.shape[-1] == 2:
        mean = values.mean(axis=-1, keepdims=True, dtype=np.float32).astype(values.dtype)
        values = np.concatenate([values, mean], axis=-1)
    if how["slices"] == "2.5d" and len(values) > 1:
        if (values != values[..., :1]).any():
            sys.exit(f"{path}: has several channels where the model was trained on slices of one")
        values = np.concatenate([values[:1], values, values[-1:]])[..., 0]
        return np.stack([values[:-2], values[1:-1], values[2:]], axis=-1), volume
    return np.repeat(values, 3, axis=-1) if values.shape[-1] == 1 else values[..., :3], volume


def picture(path: Path) -> Array:
    """A 2-D picture as stored, without transparency: (1, H, W, n)."""
    from PIL import Image

    head = path.read_bytes()[:26]
    if head[:4] == b"\x89PNG" and head[24] == 16 and head[25] in (2, 4, 6):
        sys.exit(f"{path}: is a PNG with 16 bits in several channels, which Pillow cuts to 8; use sammit predict")
    Image.MAX_IMAGE_PIXELS = None
    image: Any = Image.open(path)
    image = image.convert("RGB") if image.mode in ("P", "PA", "CMYK", "YCbCr", "HSV", "LAB", "RGBX") else image
    values = np.asarray(image)
    values = values[..., :-1] if image.mode in ("LA", "La", "RGBA", "RGBa") else values
    return values.reshape(1, *values.shape[:2], -1)


def cut(volume: Any, axis: str) -> tuple[list[int], tuple[slice, ...]]:
    """Which of a NIfTI file's axes become slice, row and column, and the slices that flip them upright."""
    from nibabel.orientations import io_orientation

    shape, zooms = (*volume.shape[:3], 1)[:3], (*map(float, volume.header.get_zooms()[:3]), 1.0)[:3]
    placed = np.isfinite(volume.affine).all() and np.linalg.matrix_rank(volume.affine[:3, :3]) == 3
    world = [(int(a), int(s)) for a, s in io_orientation(volume.affine)] if placed else [(-1, 1)] * 3
    coarse = [i for i in range(3) if zooms[i] > 0.99 * max(zooms)]
    auto = ([i for i in coarse if world[i][0] == 2] or coarse)[-1] if axis == "auto" else int(axis)
    first = ([i for i in range(3) if shape[i] == 1] or [auto])[-1]
    order = [first, *sorted((i for i in range(3) if i != first), key=lambda i: -world[i][0])]
    flips = [placed and world[i][1] != sign for i, sign in zip(order, (1, -1, -1), strict=True)]
    return order, tuple(slice(None, None, -1 if flip else 1) for flip in flips)


def full_range(values: Array, window: Any, intensity: str) -> Array:
    """Intensities as training saw them: see "reading" in model.json."""
    if intensity == "local":
        return locally(full_range(values, window, "range"))
    flat = intensity == "range" or (intensity == "fedfms" and len(values) == 1)
    if not window and flat and values.dtype != np.float32:
        return values
    some = values[np.isfinite(values)]
    if not window and intensity == "fedfms":
        window = (0, 255) if len(values) == 1 else (some.min(), np.percentile(some, 99)) if some.size else (0, 0)
    some = some[:: max(1, some.size // 1_000_000)]
    low, high = map(float, window or (np.percentile(some, (1, 99)) if some.size else (0, 0)))
    if not high > low:
        return np.zeros(values.shape, np.uint16)
    scaled = np.nan_to_num((values.astype(np.float32) - low) * (65535.0 / (high - low)), nan=0.0)
    result: Array = np.rint(np.clip(scaled, 0, 65535)).astype(np.uint16)
    return result


def locally(values: Array) -> Array:
    """Each pixel as its distance, in deviations, from the mean of a square around it: (D, H, W, n) uint8."""
    side, result = max(3, round(max(values.shape[1:3]) / 16)), np.empty(values.shape, np.uint8)
    for index, piece in enumerate(values):
        picture = piece.astype(np.float32) / np.iinfo(values.dtype).max
        mean = blurred(picture, side)
        variance = blurred((picture - mean) ** 2, side).mean(axis=-1, keepdims=True)
        distance = (picture - mean) / (3 * np.sqrt(np.maximum(variance, 0.02**2)))
        result[index] = np.rint((0.5 + 0.5 * np.clip(distance, -1, 1)) * 255)
    return result


def blurred(picture: Array, side: int) -> Array:
    """(H, W, n) -> the mean of a square around each pixel, mirrored at the border."""
    for axis in (0, 1):
        margins = [(side // 2 + 1, side - 1 - side // 2) if axis == at else (0, 0) for at in range(3)]
        sums = np.cumsum(np.pad(picture, margins, "symmetric"), axis=axis, dtype=np.float64).swapaxes(0, axis)
        picture = ((sums[side:] - sums[:-side]) / side).astype(np.float32).swapaxes(0, axis)
    return picture
