"""Matplotlib figures as inline SVG that follows the page: its text colour, its width, and unique ids.

Colours are Okabe and Ito's, told apart by the common forms of colour blindness; since colour alone must not carry
meaning, every series has a line style and a marker of its own too.
"""

from __future__ import annotations

import io
import re
import warnings
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")

_INK = "#010203"  # stands for the page's text colour until the SVG is written


@dataclass(frozen=True)
class Sheet:
    """What a figure is drawn on: its width in inches, and the points of its largest letters."""

    width: float
    letters: float


PAGE = Sheet(4.8, 10)
"""A page's: narrow, so that text stays readable where a phone scales the figure down."""


@dataclass(frozen=True)
class Picture:
    """A figure for the page: a title, inline SVG, what it shows in words, and the figure for whoever prints it."""

    title: str
    svg: str
    alt: str
    figure: Figure = field(compare=False, repr=False)


def series_style(place: int) -> dict[str, Any]:
    """Colour, line and marker of the series at a place. The cycles have no common length, so many differ."""
    return {
        "color": COLOURS[place % len(COLOURS)],
        "linestyle": LINES[(place + place // len(COLOURS)) % len(LINES)],
        "marker": MARKERS[place % len(MARKERS)],
        "markersize": 4.5,
        "linewidth": 1.6,
    }


def new_figure(height: float, rows: int = 1, sheet: Sheet = PAGE) -> tuple[Figure, list[Axes]]:
    """A transparent figure with axes in the page's ink, one below the other; `height` is what it has on a page."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(sheet.width, height * (sheet.letters / PAGE.letters)), layout="constrained")
    figure.patch.set_alpha(0)
    axes = [figure.add_subplot(rows, 1, row + 1) for row in range(rows)]
    for one in axes:
        dress(one, sheet)
    return figure, axes


def dress(axes: Axes, sheet: Sheet = PAGE) -> None:
    """Axes in the page's ink, without the frame's upper and right sides."""
    axes.patch.set_alpha(0)
    axes.tick_params(colors=_INK, labelsize=sheet.letters - 1)
    axes.spines[["top", "right"]].set_visible(False)
    for spine in axes.spines.values():
        spine.set_color(_INK)
    for text in (axes.xaxis.label, axes.yaxis.label, axes.title):
        text.set_color(_INK)
        text.set_fontsize(sheet.letters)
    axes.grid(axis="y", color=_INK, alpha=0.15, linewidth=0.6)
    axes.set_axisbelow(True)


def add_legend(figure: Figure, axes: Axes, sheet: Sheet = PAGE) -> None:
    """The legend below the axes, where it hides nothing."""
    handles, labels = axes.get_legend_handles_labels()
    room = (sheet.width / sheet.letters) / (PAGE.width / PAGE.letters)
    columns = round(room * (2 if max(map(len, labels), default=0) > 14 else 3))
    figure.legend(
        handles, labels, loc="outside lower center", ncols=columns, frameon=False, fontsize=sheet.letters - 1,
        labelcolor=_INK, handlelength=3.2,
    )  # fmt: skip


def plain(name: str) -> str:
    """A name as a label: a dollar sign is no formula, and a leading underscore does not hide it from the legend."""
    name = name.replace("$", r"\$")
    return f" {name}" if name.startswith("_") else name


def ink() -> str:
    """The colour that becomes the page's text colour."""
    return _INK


def to_picture(figure: Figure, title: str, alt: str) -> Picture:
    """The figure as inline SVG with `alt` as its accessible name; equal figures give equal text."""
    import matplotlib

    text = io.StringIO()
    # Text stays text: small files, and the page's own font. A fixed salt makes ids repeatable.
    settings = {"svg.fonttype": "none", "svg.hashsalt": title, "font.family": "sans-serif"}
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        # The reader's browser has the letters that matplotlib's own font may lack.
        warnings.filterwarnings("ignore", message="Glyph")
        figure.savefig(text, format="svg", metadata={"Date": None})
    return Picture(title, _for_page(text.getvalue(), title, alt), alt, figure)


def to_file(picture: Picture) -> str:
    """The figure as a file of its own: dark on white, whatever shows it."""
    return picture.svg.replace("<svg ", '<svg style="color: #14181d; background: #ffffff" ', 1)


def _for_page(svg: str, title: str, alt: str) -> str:
    """Matplotlib's file as an element of a page."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    svg = svg.replace("<svg ", f'<svg role="img" aria-label="{escape(alt)}" ', 1)
    svg = re.sub(r"font: ([^;\"]*?)'[^;\"]*", r"font: \1sans-serif", svg)
    svg = _own_ids(svg, re.sub(r"\W+", "-", title.lower()))
    return svg.replace(_INK, "currentColor")


def _own_ids(svg: str, prefix: str) -> str:
    """Keep only the ids that are referred to, under a prefix: ids must be unique on a page with many figures."""
    # Only `url(#...)` and `href="#..."` refer; `fill: #0072b2"` is a colour.
    used = set(re.findall(r"(?:url\(|href=\")#([\w-]+)", svg))
    svg = re.sub(r' id="([\w.-]+)"', lambda m: f' id="{prefix}-{m[1]}"' if m[1] in used else "", svg)
    return re.sub(r"(url\(|href=\")#", rf"\1#{prefix}-", svg)
