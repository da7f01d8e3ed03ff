"""Weak labels, made of full masks: what an annotator with less time would have left. For training alone.

A *region* of a picture is the pixels with the same structures; those with none are the background. Overlapping
structures part a disc with a cup inside into rim and cup. A labelled pixel is labelled for every structure; whatever
the kind, pixels that nobody labelled in the file stay unlabelled. Lengths are pixels of the picture that the model
sees tiles of (`data.scale`). Parts of a region are joined at sides and corners.

    scribble   the middle line of every region, background too, three pixels wide and cut by its region: where the
               distance to the region's edge has a slope of at most the square root of one half, since two edges are
               about equally near. The picture's border is an edge. Every part has a line or a dot.
    point      a disc of radius 2, cut by its region, in every part of every region: at a pixel drawn among the deeper
               half of the part. At most 64 parts of a region, drawn; as many discs again in the background.
    block      one tenth of the squares of a grid of 32 pixels, drawn, at least one; each labelled in full.
    box        of every part of every structure the bounding box: outside all boxes is background, the fifth of the
               box in its middle counts as the structure whether it is or not, the rest of the box is unlabelled
               (Box^i of Khoreva et al., 1603.07485). For compact structures; the box of a vessel is the picture.

Draws are a function of the seed of the split, the site, the case and the slice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from math import sqrt
from typing import TYPE_CHECKING

from sammit.data.decode import Entry, layer, pack
from sammit.randomness import generator

if TYPE_CHECKING:
    import numpy as np

    Drawn = tuple[np.ndarray, np.ndarray]
    """(C, h, w) bool, what is told of the structures, and (h, w) bool, where anything is told."""

RADIUS = 2  # of a point's disc
MOST_POINTS = 64  # in a region
BLOCK, BLOCKS = 32, 0.1  # side of a block, and share of the blocks
MIDDLE = 0.2  # share of a box that counts as its structure


def weakened(entry: Entry, kind: str, structures: int, key: tuple[object, ...]) -> Entry:
    """An entry with weak labels in place of its truth; equal keys draw alike.

    What is not labelled is no structure's any more, so that nothing can learn of it, not even which tiles to look at.

    Args:
        entry: at the scale that the model sees.
        kind: a key of `KINDS`.
        structures: C.
        key: of the draws; the slice is added.
    """
    import numpy as np

    slices, present = [], []
    for index, bits in enumerate(entry.bits):
        truth = np.stack([layer(bits, c) for c in range(structures)])
        told, where = KINDS[kind](truth, layer(bits, structures), generator("labels", *key, kind, index))
        told &= where
        slices.append(pack([*told, where]))
        present.append(tuple(int(c) for c in np.flatnonzero(told.any(axis=(1, 2)))))
    return Entry(entry.image, np.stack(slices), replace(entry.facts, complete=False, present=tuple(present)))


def unlabelled(entry: Entry) -> Entry:
    """An entry of which nobody labelled a pixel."""
    import numpy as np

    nothing = np.broadcast_to(np.uint8(0), entry.bits.shape)
    return Entry(entry.image, nothing, replace(entry.facts, complete=False, present=((),) * len(entry.bits)))


def scribbles(truth: np.ndarray, known: np.ndarray, rng: np.random.Generator) -> Drawn:
    """Middle lines; draws nothing."""
    import numpy as np
    from scipy.ndimage import binary_dilation

    where = np.zeros_like(known)
    for region in _regions(truth, known):
        where |= binary_dilation(_middle_lines(region), np.ones((3, 3), bool)) & region
    return truth, where


def _middle_lines(region: np.ndarray) -> np.ndarray:
    """(h, w) bool -> (h, w) bool; no part of the region is left without.

    At the innermost pixel of a part each central difference is at most one half, since depth changes by at most one
    from pixel to pixel. What looks like a line beside a rough edge is told by much deeper pixels near by; of another
    part none deeper than the square root of two can be that near.
    """
    import numpy as np
    from scipy.ndimage import maximum_filter

    depth = _depth(region)
    slope = sum(np.square(difference) for difference in np.gradient(depth))
    line = (slope <= 0.5 + 1e-9) & (1.5 * depth > maximum_filter(depth, 5))
    inside: np.ndarray = region & line[1:-1, 1:-1]
    return inside


def points(truth: np.ndarray, known: np.ndarray, rng: np.random.Generator) -> Drawn:
    """Discs in the parts of every region, and as many in the background, at least one."""
    import numpy as np

    where, count = np.zeros_like(known), 0
    for region in _regions(truth, known):
        if (region & truth.any(axis=0)).any():
            places = _one_in_each_part(region, rng)
            count += len(places)
            where |= _discs(places, region)
    background = known & ~truth.any(axis=0)
    free = np.flatnonzero(background)
    return truth, where | _discs(rng.choice(free, min(max(count, 1), free.size), replace=False), background)


def _one_in_each_part(region: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Flat places, one in the deeper half of each part of a region, or of `MOST_POINTS` of them."""
    import numpy as np
    from scipy.ndimage import maximum

    parts, count = _parts(region)
    depth = _depth(region)[1:-1, 1:-1]
    deepest = np.concatenate([[0.0], maximum(depth, parts, np.arange(1, count + 1))])
    inner = rng.permutation(np.flatnonzero(region & (depth >= deepest[parts] / 2)))
    places = inner[np.unique(parts.ravel()[inner], return_index=True)[1]]
    return places if count <= MOST_POINTS else rng.choice(places, MOST_POINTS, replace=False)


def blocks(truth: np.ndarray, known: np.ndarray, rng: np.random.Generator) -> Drawn:
    """Whole squares of a grid that starts at the picture's corner; those at its end may be cut."""
    import numpy as np

    height, width = known.shape
    rows, columns = -(-height // BLOCK), -(-width // BLOCK)
    chosen = np.zeros(rows * columns, bool)
    chosen[rng.choice(chosen.size, max(1, round(BLOCKS * chosen.size)), replace=False)] = True
    grid = chosen.reshape(rows, columns).repeat(BLOCK, axis=0).repeat(BLOCK, axis=1)
    return truth, grid[:height, :width] & known


def boxes(truth: np.ndarray, known: np.ndarray, rng: np.random.Generator) -> Drawn:
    """Boxes' middles are their structure, their rest is unlabelled; draws nothing.

    Where boxes of different structures overlap, a pixel counts as labelled only if it is decided for all of them.
    """
    import numpy as np
    from scipy.ndimage import find_objects

    told, where = np.zeros_like(truth), known.copy()
    for structure, inside in zip(truth, told, strict=True):
        boxed = np.zeros_like(known)
        for rows, columns in find_objects(_parts(structure & known)[0]):
            boxed[rows, columns] = True
            inside[_middle_of(rows), _middle_of(columns)] = True
        where &= inside | ~boxed
    return told, where


def _middle_of(side: slice) -> slice:
    """The middle of a box's side; of both sides together, `MIDDLE` of the box."""
    length = side.stop - side.start
    inner = max(1, round(length * sqrt(MIDDLE)))
    start = side.start + (length - inner) // 2
    return slice(start, start + inner)


KINDS: dict[str, Callable[..., Drawn]] = {"scribble": scribbles, "point": points, "block": blocks, "box": boxes}
"""(C, h, w) truth, (h, w) known pixels and a generator -> what is told, and where."""


def _regions(truth: np.ndarray, known: np.ndarray) -> Iterator[np.ndarray]:
    """(h, w) bool of each region, the background first where there is any."""
    import numpy as np

    codes = np.tensordot(1 << np.arange(len(truth)), truth, axes=1)
    for code in np.unique(codes[known]):
        yield (codes == code) & known


def _parts(region: np.ndarray) -> tuple[np.ndarray, int]:
    """(h, w) numbers of a region's parts from 1, 0 elsewhere, and how many there are."""
    import numpy as np
    from scipy.ndimage import label

    numbers, count = label(region, np.ones((3, 3), int))
    return numbers, int(count)


def _depth(region: np.ndarray) -> np.ndarray:
    """(h, w) -> (h + 2, w + 2) distance to the nearest pixel outside, as is all beyond the picture's border."""
    import numpy as np
    from scipy.ndimage import distance_transform_edt

    depth: np.ndarray = distance_transform_edt(np.pad(region, 1))
    return depth


def _discs(places: np.ndarray, region: np.ndarray) -> np.ndarray:
    """(h, w) bool: discs about flat places, cut by a region."""
    import numpy as np
    from scipy.ndimage import distance_transform_edt

    if not places.size:
        return np.zeros_like(region)
    away = np.ones_like(region)
    away.ravel()[places] = False
    discs: np.ndarray = (distance_transform_edt(away) <= RADIUS) & region
    return discs
