"""Training batches, a pure function of their key: item i of step t draws with a generator of its own.

With `data.views` = V an item is one of V tiles of its unit, which are the same for every key, seed and method. Each is
made alone, so that it is the same in any batch, to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from sammit.config import DataConfig
from sammit.data.sampling import Unit, corner, passes
from sammit.data.transforms import augmented, draw_augmentation, margin
from sammit.errors import UserError
from sammit.randomness import generator
from sammit.vocabulary import Batch

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor


def draw(
    units: list[Unit],
    config: DataConfig,
    steps: int,
    batch_size: int,
    key: tuple[object, ...],
    unlabelled: Sequence[Unit] = (),
) -> Iterator[Batch]:
    """`steps` batches of `batch_size` tiles (view "tile") or whole images (view "whole").

    Args:
        units: what is drawn from, in a fixed order.
        config: size, foreground, augmentation.
        steps, batch_size: how much.
        key: equal keys give equal batches.
        unlabelled: more units; where there are any, every other item is one of them.

    Raises:
        UserError: there is nothing to draw from.
    """
    if not units:
        raise UserError("no training images: split the site first, or check its train part")
    pick = _in_turn(units, unlabelled, key)
    for step in range(steps):
        chosen = [pick(step * batch_size + item) for item in range(batch_size)]
        rngs = [generator(*key, step, item) for item in range(batch_size)]
        yield _of_views(chosen, config, rngs) if config.views else _batch(chosen, config, rngs)


def _in_turn(units: Sequence[Unit], unlabelled: Sequence[Unit], key: tuple[object, ...]) -> Callable[[int], Unit]:
    """Item number -> its unit: passes over `units`, and in turn with them over `unlabelled`."""
    first = passes(len(units), key)
    if not unlabelled:
        return lambda item: units[first(item)]
    second = passes(len(unlabelled), (*key, "unlabelled"))
    return lambda item: unlabelled[second(item // 2)] if item % 2 else units[first(item // 2)]


def _of_views(units: list[Unit], config: DataConfig, rngs: list[np.random.Generator]) -> Batch:
    """One batch of fixed tiles: the generators only choose which of a unit's views."""
    import torch

    numbers = [int(rng.integers(config.views)) for rng in rngs]
    views = [_batch([unit], config, [_fixed(unit, number)]) for unit, number in zip(units, numbers, strict=True)]
    return Batch(*(torch.cat([getattr(view, part) for view in views]) for part in ("images", "truth", "valid")))


def _fixed(unit: Unit, number: int) -> np.random.Generator:
    """The generator of one of a unit's views: wherever the image is used again, it is shown alike."""
    return generator("view", unit.site.name, unit.case.name, unit.index, number)


def _batch(units: list[Unit], config: DataConfig, rngs: list[np.random.Generator]) -> Batch:
    """One batch: each unit's crop, the augmentation of all at once, another look where it is asked for."""
    batch = _augmented(units, config, rngs)
    if config.appearance == "none":
        return batch
    from sammit.data.appearance import changed

    return replace(batch, images=changed(batch.images, config.appearance, rngs))


def _augmented(units: list[Unit], config: DataConfig, rngs: list[np.random.Generator]) -> Batch:
    share = config.foreground if config.view == "tile" else 0.0
    corners = [corner(unit, config.size, share, rng) for unit, rng in zip(units, rngs, strict=True)]
    if config.augmentation == "none":
        pixels = _crops(units, corners, config.size, 0)
        return Batch(pixels[:, :3], pixels[:, 3:-1], pixels[:, -1:])
    draws = [draw_augmentation(rng, _grey(unit, config)) for unit, rng in zip(units, rngs, strict=True)]
    return augmented(_crops(units, corners, config.size, margin(config.size)), draws, config.size)


def _grey(unit: Unit, config: DataConfig) -> bool:
    """Whether a unit's channels are no colours: one grey channel, or a slice with its neighbours."""
    return unit.frame().image.shape[-1] == 1 or (unit.case.volume and config.slices == "2.5d")


def _crops(units: list[Unit], corners: list[tuple[int, int]], size: int, rim: int) -> Tensor:
    """(B, 3 + C + 1, S, S) float32: image in [0, 1], truth and validity around each tile; S = size + 2 * rim."""
    import numpy as np
    import torch

    side, count = size + 2 * rim, len(units[0].site.structures)
    pixels = np.empty((len(units), 3 + count + 1, side, side), np.float32)
    for place, unit, (top, left) in zip(pixels, units, corners, strict=True):
        frame = unit.frame()
        rows, in_rows = _mirrored(top - rim, side, frame.image.shape[1])
        columns, in_columns = _mirrored(left - rim, side, frame.image.shape[2])
        image, bits = _window(frame.image[unit.index], rows, columns), _window(frame.bits[unit.index], rows, columns)
        np.multiply(image.transpose(2, 0, 1), np.float32(1 / np.iinfo(image.dtype).max), out=place[:3])
        for index in range(count + 1):
            place[3 + index] = (bits[..., index // 8] >> (index % 8)) & 1
        place[-1] *= np.outer(in_rows, in_columns)
    return torch.from_numpy(pixels)


def _mirrored(start: int, count: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices start, start + 1, ... mirrored into [0, length), and which of them lay inside."""
    import numpy as np

    wanted = np.arange(start, start + count)
    folded = wanted % (2 * length)
    return np.minimum(folded, 2 * length - 1 - folded), (wanted >= 0) & (wanted < length)


def _window(array: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """(H, W, n) -> those rows and columns; a plain slice, many times quicker, where nothing is mirrored."""
    if rows[-1] - rows[0] == len(rows) - 1 and columns[-1] - columns[0] == len(columns) - 1:
        return array[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return array.take(rows, axis=0).take(columns, axis=1)
