"""Entries at the scale a model sees: what tiles are cut from, in training as in prediction."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from sammit.data.decode import Entry, layer, pack, present_in
from sammit.geometry import View

if TYPE_CHECKING:
    import numpy as np


def same_scale(view: View) -> bool:
    """Whether the model's frame is the native one, whatever the image."""
    return view.kind == "tile" and view.scale == 1 and not view.longest


def at_model_scale(entry: Entry, view: View, structures: int) -> Entry:
    """An entry resized to the model's frame, slice by slice.

    The image is what `View.to_model` gives; a pixel belongs to a structure, or is labelled, where more than half of
    its area does. FedFMS's way: each block of 4 x 4 pixels, one logit of its model, takes the nearest native pixel.

    Args:
        entry: in native geometry.
        view: how the model looks at it.
        structures: C.
    """
    import numpy as np

    shape = view.model_shape(*entry.image.shape[1:3])
    shrink = _share if view.resampling == "area" else _nearest_blocks
    image = np.stack([_image(picture, view) for picture in entry.image])
    layers = [np.stack([shrink(layer(bits, index), shape) for bits in entry.bits]) for index in range(structures + 1)]
    return Entry(image, pack(layers), replace(entry.facts, present=present_in(layers[:-1])))


def _image(picture: np.ndarray, view: View) -> np.ndarray:
    """(H, W, n) -> (h, w, n) of the same type."""
    import numpy as np
    import torch

    values = torch.from_numpy(picture.astype(np.float32)).permute(2, 0, 1)[None]
    resized = view.to_model(values)[0].permute(1, 2, 0).numpy()
    result: np.ndarray = np.rint(resized.clip(0, np.iinfo(picture.dtype).max)).astype(picture.dtype)
    return result


def _share(mask: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """(H, W) bool -> (h, w) bool: True where more than half of a pixel's area is."""
    import numpy as np
    import torch
    from torch.nn.functional import interpolate

    values = torch.from_numpy(mask.astype(np.float32))[None, None]
    result: np.ndarray = (interpolate(values, size=shape, mode="area")[0, 0] > 0.5).numpy()
    return result


def _nearest_blocks(mask: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """(H, W) bool -> (h, w) bool in blocks of 4 x 4, each the native pixel at its upper left corner."""
    import numpy as np

    rows, columns = ((np.arange(side) // 4 * 4 * full) // side for side, full in zip(shape, mask.shape, strict=True))
    result: np.ndarray = mask[np.ix_(rows, columns)]
    return result
