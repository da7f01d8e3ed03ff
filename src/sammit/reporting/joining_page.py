"""The report of a site that joined a run, as one HTML file that asks the network for nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sammit.errors import UserError
from sammit.files import write_atomically
from sammit.reporting import joining, wording
from sammit.reporting.pages import render
from sammit.reporting.rendering import to_html
from sammit.reporting.svg import COLOURS, Picture, add_legend, new_figure, plain, series_style, to_picture


def read_join(folder: Path) -> joining.Summary:
    """`join.json`; raises UserError where there is none or it is damaged."""
    path = folder / "join.json"
    try:
        summary: joining.Summary = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: is missing or damaged ({error}); run the join again") from None
    return summary


def write_join_report(folder: Path) -> Path:
    """Write `report.html` into the folder of a join, and return it."""
    summary = read_join(folder)
    environment = json.loads((folder / "environment.json").read_text(encoding="utf-8"))
    page = render(
        "joining.html",
        summary=summary,
        table=to_html(joining.join_table(summary)),
        picture=curve(summary),
        sentence=joining.in_a_sentence(summary),
        how=joining.how_it_was_done(summary),
        notes=environment.get("notes", []),
        few=summary["test"]["patients"] < 20,
    )
    write_atomically(folder / "report.html", page)
    return folder / "report.html"


def curve(summary: joining.Summary) -> Picture:
    """Dice against labelled cases with intervals; what needs no label lies as lines across."""
    own = [entry for entry in summary["models"] if entry["cases"]]
    figure, (axes,) = new_figure(3.4)
    places = list(range(len(own)))
    means = [entry["dice"]["mean"] for entry in own]
    axes.errorbar(places, means, yerr=_reach(own), capsize=4, label=plain("own part"), **series_style(0))
    for place, entry in enumerate(entry for entry in summary["models"] if not entry["cases"]):
        label, line = plain(joining.model_in_words(entry)), ("--", ":")[place]
        axes.axhline(entry["dice"]["mean"], label=label, color=COLOURS[1 + place], linestyle=line, linewidth=1.4)
    axes.set_xticks(places, [str(entry["cases"]) for entry in own])
    axes.set_xlim(-0.5, len(own) - 0.5)
    axes.set_xlabel("labelled training cases")
    axes.set_ylabel("Dice, test patients")
    add_legend(figure, axes)
    said = [f"{joining.model_in_words(entry)} {wording.score(entry['dice']['mean'])}" for entry in summary["models"]]
    name = f"Dice against labelled cases, {summary['site']}"
    return to_picture(figure, name, f"Dice against labelled cases: {wording.listed(said)}.")


def _reach(entries: list[dict[str, Any]]) -> list[list[float]]:
    """How far each interval goes below and above its mean; nowhere without one."""
    reach: list[list[float]] = [[], []]
    for dice in (entry["dice"] for entry in entries):
        low, high = (dice["mean"] if dice[end] is None else dice[end] for end in ("low", "high"))
        reach[0].append(max(0.0, dice["mean"] - low))
        reach[1].append(max(0.0, high - dice["mean"]))
    return reach
