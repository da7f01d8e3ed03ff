"""Which image, and which place in it, a training tile comes from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol

from sammit.data.decode import Entry, layer
from sammit.randomness import generator
from sammit.vocabulary import Case

if TYPE_CHECKING:
    import numpy as np

POINTS = 1024  # places remembered for each structure of a slice; enough that tiles differ


class Framed(Protocol):
    """What a unit asks of its site."""

    name: str
    structures: tuple[str, ...]

    def taught(self, case: Case) -> Entry:
        """A case at the scale the model sees, with the labels that training sees."""
        ...


@dataclass
class Unit:
    """One image, or one slice of a volume, that training draws from.

    Attributes:
        site: whose it is.
        case: which case.
        index: the slice.
    """

    site: Framed
    case: Case
    index: int
    _points: dict[int, np.ndarray] = field(default_factory=dict, repr=False)

    def frame(self) -> Entry:
        """The case at model scale, with the labels that training sees."""
        return self.site.taught(self.case)

    def points(self, structure: int) -> np.ndarray:
        """(n, 2) int32 rows and columns at model scale that lie in a structure, at most `POINTS`, drawn by key."""
        import numpy as np

        if structure not in self._points:
            where = layer(self.frame().bits[self.index], structure)
            places = np.flatnonzero(where)
            if places.size > POINTS:
                rng = generator("points", self.site.name, self.case.name, self.index, structure)
                places = places[np.sort(rng.choice(places.size, POINTS, replace=False))]
            self._points[structure] = np.stack(np.divmod(places, where.shape[1]), axis=1).astype(np.int32)
        return self._points[structure]


def passes(count: int, key: tuple[object, ...]) -> Callable[[int], int]:
    """Item number -> which of `count` units: passes over all, each in an order of its own, so all are seen equally."""

    @lru_cache(maxsize=2)
    def order(epoch: int) -> list[int]:
        return [int(unit) for unit in generator(*key, "order", epoch).permutation(count)]

    return lambda item: order(item // count)[item % count]


def corner(unit: Unit, size: int, foreground: float, rng: np.random.Generator) -> tuple[int, int]:
    """Row and column of a tile's upper left pixel, at model scale.

    With probability `foreground` the tile holds a random pixel of a structure, itself drawn among those that are
    present; else it lies anywhere. The pixel falls anywhere in the tile but its rim, not always in the middle: a model
    that knows positions would learn that the middle is foreground. The tile stays inside the image where it can; an
    image smaller than the tile lies in its middle.
    """
    height, width = unit.frame().image.shape[1:3]
    present = unit.frame().facts.present[unit.index]
    chance, pick, shift = rng.random(), rng.random(2), rng.random(2)
    if present and chance < foreground:
        points = unit.points(present[int(pick[0] * len(present))])
        row, column = points[int(pick[1] * len(points))]
        top, left = row - size * (0.125 + 0.75 * shift[0]), column - size * (0.125 + 0.75 * shift[1])
    else:
        top, left = shift[0] * (height - size), shift[1] * (width - size)
    return _inside(round(float(top)), height, size), _inside(round(float(left)), width, size)


def _inside(start: int, length: int, size: int) -> int:
    return min(max(start, 0), length - size) if length >= size else (length - size) // 2
