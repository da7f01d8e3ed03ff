"""Dice of one run by site, structure and model, as its table has it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sammit.reporting import wording
from sammit.reporting.cases import MODELS
from sammit.reporting.svg import COLOURS, MARKERS, PAGE, Picture, Sheet, add_legend, ink, new_figure, plain, to_picture

Row = tuple[str, str, Mapping[str, Mapping[str, Any]]]
"""Site as it is called, model, structure -> statistics of its Dice."""


def dice_by_site(summary: Mapping[str, Any], name: str, sheet: Sheet = PAGE) -> Picture | None:
    """Mean and interval of each structure at each site, a group of marks for each model; the reported one is filled.

    Args:
        summary: of the run.
        name: of the run.
        sheet: what it is drawn on.
    """
    rows = _rows(summary)
    structures = list(dict.fromkeys(one for _, _, scores in rows for one in scores))
    if not structures:
        return None
    step = len(structures) + 0.8
    figure, (axes,) = new_figure(1.0 + 0.155 * step * len(rows) + 0.22 * (1 + len(structures) // 3), sheet=sheet)
    for place, structure in enumerate(structures):
        colour = COLOURS[place % len(COLOURS)]
        style: dict[str, Any] = {"color": colour, "marker": MARKERS[place % len(MARKERS)], "linestyle": "none"}
        axes.plot([], [], label=plain(structure), **style)  # so that the legend's marks are filled
        for row, (site, model, scores) in enumerate(rows):
            one, height = scores[structure], row * step + place
            if one["low"] is not None:
                axes.plot([one["low"], one["high"]], [height] * 2, color=colour, linewidth=1.3)
            filled = colour if model == _reported(summary, site) else "white"
            axes.plot([one["mean"]], [height], markersize=5, markerfacecolor=filled, **style)
    _named(axes, rows, step, len(structures))
    axes.set_xlabel(f"{wording.scored_part(summary)} Dice with its 95 % interval")
    add_legend(figure, axes, sheet)
    said = [
        f"{_called(row)} {structure} {wording.score(one['mean'])}" for row in rows for structure, one in row[2].items()
    ]
    return to_picture(figure, f"Dice by site, {name}", f"Dice by site: {wording.listed(said)}.")


def _rows(summary: Mapping[str, Any]) -> list[Row]:
    """Every model of every site that took part, then of those that did not."""
    entries = {**summary["sites"], **(summary.get("unseen") or {})}
    return [
        (site, model, {structure: one["dice"] for structure, one in entry["models"][model].items()})
        for site, entry in entries.items()
        for model in MODELS
        if entry["models"].get(model)
    ]


def _reported(summary: Mapping[str, Any], site: str) -> str:
    return str(({**summary["sites"], **(summary.get("unseen") or {})})[site]["reported"])


def _called(row: Row) -> str:
    site, model, _ = row
    return f"{site}, {model}"


def _named(axes: Any, rows: list[Row], step: float, structures: int) -> None:
    """A group's name beside it: the model where there are several, lines between sites."""
    several = len({model for _, model, _ in rows}) > 1
    names = [plain(_called(row) if several else row[0]) for row in rows]
    axes.set_yticks([place * step + (structures - 1) / 2 for place in range(len(rows))], names)
    for place in range(1, len(rows)):
        if rows[place][0] != rows[place - 1][0]:
            axes.axhline(place * step - 0.9, color=ink(), alpha=0.25, linewidth=0.7)
    axes.set_ylim(len(rows) * step - 0.9, -0.9)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.grid(visible=True, axis="x", color=ink(), alpha=0.15, linewidth=0.6)
