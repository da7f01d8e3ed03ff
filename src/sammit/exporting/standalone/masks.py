"""Masks from what an exported Sammit model says of an image: its view, tiles, and the way back to native pixels.

The numbers are those of model.json; `reading` lies beside this file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from reading import Array, cut, read

TILES = 16  # given to the model at once
Model = Callable[[Array], Array]
"""(B, 3, size, size) float32 in [0, 1] -> (B, C, h, w) logits."""


def predict(model: Model, path: Path, facts: dict[str, Any], out: Path) -> Iterator[Path]:
    """Write a mask for each structure of an image, in the image's own geometry."""
    image, volume = read(path, facts["reading"])
    found = np.stack([segment(model, piece, facts["view"]) for piece in image])
    stem = path.name[: -len(".nii.gz")] if path.name.lower().endswith(".nii.gz") else path.stem
    for index, structure in enumerate(facts["structures"]):
        target = out / f"{stem}_{structure}{'.png' if volume is None else '.nii.gz'}"
        write(target, found[:, index], volume, facts["reading"]["axis"])
        yield target


def segment(model: Model, piece: Array, view: dict[str, Any]) -> Array:
    """(H, W, 3) unsigned integers -> (C, H, W) bool: sigmoid above 0.5, that is a logit above 0, in native pixels."""
    native, size = piece.shape[:2], view["size"]
    values = (piece.astype(np.float32) / np.float32(np.iinfo(piece.dtype).max)).transpose(2, 0, 1)[None]
    if view["kind"] == "whole":
        logits = model(resize(values, (size, size), view["resampling"] == "area"))
        return np.asarray(resize(logits, native)[0] > 0)
    scale = max(native) / view["longest"] if view["longest"] else view["scale"]
    shape = (max(1, round(native[0] / scale)), max(1, round(native[1] / scale)))
    seen = resize(values, shape, view["resampling"] == "area")[0]
    return np.asarray(
        resize(stitched(model, seen, size, view["overlap"])[None, :, : shape[0], : shape[1]], native)[0] > 0
    )


def stitched(model: Model, image: Array, size: int, overlap: float) -> Array:
    """(3, h, w) -> (C, h', w'), at least `size` each: overlapping tiles, weighted less towards a tile's edge."""
    while (missing := [max(0, size - side) for side in image.shape[1:]]) != [0, 0]:  # mirrored at the lower right
        image = np.concatenate([image, image[:, ::-1][:, : missing[0]]], axis=1)
        image = np.concatenate([image, image[:, :, ::-1][:, :, : missing[1]]], axis=2)
    corners = [(y, x) for y in starts(image.shape[1], size, overlap) for x in starts(image.shape[2], size, overlap)]
    ramp = np.maximum(1 - np.abs(np.linspace(-1, 1, size + 2, dtype=np.float32)[1:-1]), np.float32(0.02))
    weight = ramp[:, None] * ramp
    summed: Any = 0
    total = np.zeros(image.shape[1:], np.float32)
    for first in range(0, len(corners), TILES):
        some = corners[first : first + TILES]
        logits = resize(model(np.stack([image[:, y : y + size, x : x + size] for y, x in some])), (size, size))
        summed = summed if first else np.zeros((logits.shape[1], *image.shape[1:]), np.float32)
        for (y, x), tile in zip(some, logits, strict=True):
            summed[:, y : y + size, x : x + size] += tile * weight
            total[y : y + size, x : x + size] += weight
    return np.asarray(summed / total)


def starts(length: int, size: int, overlap: float) -> list[int]:
    """Where tiles start along a side: evenly spaced, at least the overlap shared."""
    count = 1 + -(-(length - size) // max(1, int(size * (1 - overlap))))
    return [round(i * (length - size) / max(1, count - 1)) for i in range(count)]


def resize(values: Array, shape: tuple[int, ...], antialias: bool = True) -> Array:
    """(..., h, w) -> (..., *shape), bilinear, antialiased where it shrinks; pixel centres align."""
    height, width = values.shape[-2:]
    if (height, width) == tuple(shape):
        return values
    return np.asarray(weights(height, shape[0], antialias) @ values @ weights(width, shape[1], antialias).T)


def weights(given: int, wanted: int, antialias: bool) -> Array:
    """(wanted, given) float32: what each new pixel takes of the old ones; triangles about its centre."""
    scale = given / wanted
    centres = (np.arange(wanted) + 0.5) * scale
    far = np.abs(np.arange(given) + 0.5 - centres[:, None]) / (max(scale, 1) if antialias else 1)
    rows = np.maximum(0, 1 - far)
    return (rows / rows.sum(axis=1, keepdims=True)).astype(np.float32)


def write(path: Path, mask: Array, volume: Any, axis: str) -> None:
    """(D, H, W) bool -> a PNG of 0 and 255, or a NIfTI of 0 and 1 on the image's own grid."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if volume is None:
        from PIL import Image

        Image.fromarray(mask[0].astype(np.uint8) * np.uint8(255)).save(path)
        return
    import nibabel

    order, flips = cut(volume, axis)
    header = volume.header.copy()
    header.set_data_dtype(np.uint8)
    header.set_slope_inter(1, 0)
    nibabel.save(
        nibabel.Nifti1Image(mask[flips].transpose(np.argsort(order)).astype(np.uint8), volume.affine, header), path
    )
