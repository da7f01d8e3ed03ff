"""Where the names of points go, so that they hide neither each other nor a point: plain geometry, no drawing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

_RINGS = (9.0, 15.0, 23.0, 33.0, 45.0, 60.0, 78.0, 100.0)
_WAYS = 16
_LINE = 1.5
_POINT = 5.0  # half the side of the square that a mark takes


@dataclass(frozen=True)
class Box:
    """A rectangle, any unit; `x` and `y` are its lower left corner."""

    x: float
    y: float
    width: float
    height: float

    @classmethod
    def around(cls, start: tuple[float, float], end: tuple[float, float]) -> Box:
        """A flat or upright line with a little room on both sides."""
        low, high = (tuple(pick(pair) for pair in zip(start, end, strict=True)) for pick in (min, max))
        return cls(low[0] - _LINE, low[1] - _LINE, high[0] - low[0] + 2 * _LINE, high[1] - low[1] + 2 * _LINE)

    def shared(self, other: Box) -> float:
        """The area that two have in common."""
        across = min(self.x + self.width, other.x + other.width) - max(self.x, other.x)
        up = min(self.y + self.height, other.y + other.height) - max(self.y, other.y)
        return max(0.0, across) * max(0.0, up)


def place_labels(
    points: Sequence[tuple[float, float]], sizes: Sequence[tuple[float, float]], frame: Box, others: Sequence[Box] = ()
) -> list[Box]:
    """A box for each label, near its point.

    Each is put where it costs least: overlap with what stands already and what lies outside the frame cost most, then
    the way to its point. A second turn lets the first ones make room for the later.

    Args:
        points: (x, y) in points of print.
        sizes: (width, height) of each label in the same unit.
        frame: where labels may stand.
        others: what else they should not hide.
    """
    marks = [Box(x - _POINT, y - _POINT, 2 * _POINT, 2 * _POINT) for x, y in points]
    placed: dict[int, Box] = {}
    for _ in range(2):
        for place, (point, size) in enumerate(zip(points, sizes, strict=True)):
            taken = [*marks, *others, *(box for other, box in placed.items() if other != place)]
            placed[place] = min(_candidates(point, size), key=lambda option: _cost(option[0], option[1], taken, frame))[
                1
            ]
    return [placed[place] for place in range(len(points))]


def _candidates(point: tuple[float, float], size: tuple[float, float]) -> list[tuple[float, Box]]:
    """(distance, box) on rings around a point, to the right first; the box's nearest side is that far away."""
    options = []
    for ring in _RINGS:
        for way in range(_WAYS):
            angle = 2 * math.pi * way / _WAYS
            x = point[0] + math.cos(angle) * (ring + size[0] / 2)
            y = point[1] + math.sin(angle) * (ring + size[1] / 2)
            options.append((ring, Box(x - size[0] / 2, y - size[1] / 2, *size)))
    return options


def _cost(ring: float, box: Box, taken: Sequence[Box], frame: Box) -> float:
    outside = box.width * box.height - box.shared(frame)
    # Rounded, so that the first of equally good places is taken and not the one with the kindest rounding error.
    return round(10 * sum(box.shared(other) for other in taken) + 10 * outside + ring, 3)
