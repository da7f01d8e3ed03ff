"""Dice against bytes: a point for each method, and the line of those that no other beats on both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from sammit.reporting import wording
from sammit.reporting.byte_axis import ByteAxis
from sammit.reporting.label_places import Box, place_labels
from sammit.reporting.svg import COLOURS, MARKERS, PAGE, Picture, Sheet, add_legend, ink, new_figure, plain, to_picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIZE = -2.0  # of a label's letters beside the sheet's largest, points of print
LEAST = 7.0  # points that can be read
WIDE = 0.63  # of a letter, in its size: a generous mean
FAR = 10.0  # a label further than this from its point has a line to it


Place = tuple[float, float]


@dataclass(frozen=True)
class Point:
    """A method.

    Attributes:
        label: its name.
        sent: bytes, at least 0.
        dice: in [0, 1].
    """

    label: str
    sent: float
    dice: float


def frontier(points: Sequence[Point]) -> list[Point]:
    """The points that no other beats: none has a higher Dice for no more bytes, nor fewer bytes for no lower Dice."""
    best: list[Point] = []
    for point in sorted(points, key=lambda one: (one.sent, -one.dice)):
        tied = bool(best) and (point.sent, point.dice) == (best[-1].sent, best[-1].dice)
        if not best or point.dice > best[-1].dice or tied:
            best.append(point)
    return best


def dice_against_bytes(
    methods: Sequence[tuple[str, float | None, float | None]],
    title: str = "Mean Dice against bytes",
    sheet: Sheet = PAGE,
) -> Picture | None:
    """Mean Dice against bytes up and down for a site and a round, on a logarithmic axis.

    Args:
        methods: (label, bytes, mean Dice) of each; those without a number are left out.
        title: of the picture.
        sheet: what it is drawn on.

    Returns:
        None with fewer than two points.
    """
    points = [Point(label, sent, dice) for label, sent, dice in methods if sent is not None and dice is not None]
    if len(points) < 2:
        return None
    best, scale = frontier(points), ByteAxis.of([one.sent for one in points])
    figure, (axes,) = new_figure(3.2 + 0.1 * len(points), sheet=sheet)
    _axes(axes, scale, [one.dice for one in points])
    stairs = _stairs([(scale.place(one.sent), one.dice) for one in best], scale.ends[1])
    axes.plot(*zip(*stairs, strict=True), color=ink(), linewidth=1, linestyle=(0, (4, 2)), zorder=1,
              label="best Dice for as many bytes or fewer")  # fmt: skip
    for place, point in enumerate(points):
        axes.plot([scale.place(point.sent)], [point.dice], marker=MARKERS[place % len(MARKERS)], linestyle="none",
                  markersize=7, color=COLOURS[place % len(COLOURS)], markeredgecolor=ink(),
                  markeredgewidth=0.5)  # fmt: skip
    add_legend(figure, axes, sheet)
    figure.draw_without_rendering()  # the layout, from which distances on paper follow
    _label(
        axes,
        [(point.label, (scale.place(point.sent), point.dice)) for point in points],
        stairs,
        max(LEAST, sheet.letters + SIZE),
    )
    said = wording.listed([f"{one.label} {one.dice:.3f} at {wording.size(one.sent)}" for one in points])
    alt = f"Mean Dice and bytes: {said}. Beaten by none on both: {wording.listed([one.label for one in best])}."
    return to_picture(figure, title, alt)


def _stairs(best: Sequence[Place], end: float) -> list[Place]:
    """The corners of the line from the first of the best to the end of the axis: flat, then up."""
    corners = [best[0]]
    for (_, low), (x, y) in pairwise(best):
        corners += [(x, low), (x, y)]
    return [*corners, (end, best[-1][1])]


def _axes(axes: Axes, scale: ByteAxis, dice: Sequence[float]) -> None:
    """Room for the labels on every side, and bytes with their units."""
    axes.set_xlim(*scale.ends)
    edge = max(0.01, 0.15 * (max(dice) - min(dice)))
    axes.set_ylim(min(dice) - edge, max(dice) + edge)
    axes.set_xticks([place for place, _ in scale.ticks()], [text for _, text in scale.ticks()])
    for place in scale.breaks:
        axes.text(place, 0, "//", transform=axes.get_xaxis_transform(), ha="center", va="center", fontsize=12,
                  color=ink())  # fmt: skip
    cut = "; //: left out" if scale.breaks else ""
    axes.set_xlabel(f"bytes up and down, a site and round (log axis{cut})")
    axes.set_ylabel("mean Dice")


def _label(axes: Axes, named: Sequence[tuple[str, Place]], stairs: Sequence[Place], letters: float) -> None:
    """Each point's name beside it in letters of a size, with a thin line where it had to move away."""
    figure: Any = axes.get_figure()
    scale = 72 / figure.dpi

    def on_paper(place: Place) -> Place:
        x, y = axes.transData.transform(place) * scale
        return float(x), float(y)

    inside = axes.get_window_extent()
    frame = Box(inside.x0 * scale, inside.y0 * scale, inside.width * scale, inside.height * scale)
    points = [on_paper(place) for _, place in named]
    sizes = [(WIDE * letters * len(label), 1.2 * letters) for label, _ in named]
    corners = [on_paper(corner) for corner in stairs]
    lines = [Box.around(*ends) for ends in pairwise(corners)]
    boxes = place_labels(points, sizes, frame, lines)
    for (label, place), (x, y), box in zip(named, points, boxes, strict=True):
        middle = box.x + box.width / 2 - x, box.y + box.height / 2 - y
        away = max(abs(middle[0]) - box.width / 2, abs(middle[1]) - box.height / 2)
        line = {"arrowstyle": "-", "color": ink(), "alpha": 0.5, "linewidth": 0.6, "shrinkA": 0, "shrinkB": 3}
        axes.annotate(plain(label), place, middle, textcoords="offset points", ha="center", va="center",
                      fontsize=letters, color=ink(), arrowprops=line if away > FAR else None)  # fmt: skip
