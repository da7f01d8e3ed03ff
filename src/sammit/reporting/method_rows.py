"""Rows of a figure, one for each method: its name, and how far it is from another with what is known of that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from sammit.reporting.svg import ink, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ROW = 0.21
"""Inches."""


class Look(NamedTuple):
    """How differences of a kind are drawn."""

    marker: str
    colour: str
    filled: bool


class Difference(NamedTuple):
    """A method's from another, with its interval and a kind that has a `Look`."""

    low: float
    mean: float
    high: float
    kind: str


def method_rows(axes: Axes, names: Sequence[str]) -> None:
    """A named row for each method, the first on top."""
    axes.set_yticks(range(len(names)), [plain(name) for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.grid(visible=True, axis="x", color=ink(), alpha=0.15, linewidth=0.6)


def differences(axes: Axes, rows: Sequence[Difference], looks: Mapping[str, Look]) -> None:
    """An interval and a mark in each row, a line at 0, and each kind that occurs in the legend."""
    for row, one in enumerate(rows):
        axes.plot([one.low, one.high], [row, row], color=looks[one.kind].colour, linewidth=1.4)
    for kind, look in looks.items():
        own = [(one.mean, row) for row, one in enumerate(rows) if one.kind == kind]
        if own:
            axes.plot([mean for mean, _ in own], [row for _, row in own], linestyle="none", marker=look.marker,
                      color=look.colour, markerfacecolor=look.colour if look.filled else "none", markersize=6,
                      label=kind)  # fmt: skip
    axes.axvline(0, color=ink(), linewidth=1)
