"""Fields of numbers as colours that print well in grey, each with its number on it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sammit.reporting import wording
from sammit.reporting.svg import dress, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST = 16
"""Columns up to which a field is wide enough for its number."""

Rows = Sequence[Sequence[float | None]]
"""Numbers in rows of equal length; None where there is none."""


def heat(axes: Axes, rows: Rows, low: float, high: float) -> None:
    """Fill axes with fields, the first row on top, dark at `low` and bright at `high`, and a scale beside them.

    Args:
        axes: its coordinates become columns and rows, a field one unit wide and high.
        rows: at least one, of at least one number.
        low, high: the ends of the scale.
    """
    table = [[math.nan if one is None else one for one in row] for row in rows]
    mesh = axes.pcolormesh(table, cmap="cividis", vmin=low, vmax=high, edgecolors="none")
    dress(axes)
    axes.grid(visible=False)
    axes.invert_yaxis()
    axes.tick_params(length=0)
    axes.spines[["left", "bottom"]].set_visible(False)
    if len(table[0]) <= MOST:
        _write(axes, rows, (low + high) / 2)
    figure = axes.get_figure()
    assert figure is not None
    bar = figure.colorbar(mesh, ax=axes, pad=0.02)
    dress(bar.ax)
    bar.ax.grid(visible=False)
    bar.outline.set_visible(False)


def _write(axes: Axes, rows: Rows, middle: float) -> None:
    """The number on each field, dark on bright and bright on dark."""
    size = 8.5 if len(rows[0]) <= 8 else 6
    for row, numbers in enumerate(rows):
        for column, number in enumerate(numbers):
            if number is not None:
                text = wording.score(number, 2).removeprefix("0")
                axes.text(column + 0.5, row + 0.5, text, ha="center", va="center", fontsize=size,
                          color="black" if number > middle else "white")  # fmt: skip


def name_rows(axes: Axes, names: Sequence[str]) -> None:
    """The names of rows, left of them."""
    axes.set_yticks([place + 0.5 for place in range(len(names))], [plain(name) for name in names])


def name_columns(axes: Axes, names: Sequence[str]) -> None:
    """The names of columns, below them; slanted where they would run into each other."""
    places = [place + 0.5 for place in range(len(names))]
    slant = sum(len(name) + 2 for name in names) > 44
    axes.set_xticks(places, [plain(name) for name in names])
    if slant:
        for label in axes.get_xticklabels():
            label.set(rotation=35, ha="right", rotation_mode="anchor")
