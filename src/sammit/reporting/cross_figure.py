"""The picture of the cross-site matrix: whose model on whose patients."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sammit.reporting import wording
from sammit.reporting.cross import home_and_away
from sammit.reporting.heat import heat, name_columns, name_rows
from sammit.reporting.summary import over_structures
from sammit.reporting.svg import Picture, ink, new_figure, to_picture

LEAST = 0.1
"""The scale spans at least this much Dice, so that noise does not look like a difference."""


def cross_site(summary: Mapping[str, Any], name: str) -> Picture | None:
    """A row for each site's own model and, where there is one, for the shared model; a column for each site's patients.

    Args:
        summary: of the run, with "cross".
        name: of the run; keeps titles, and so ids, apart on a page.
    """
    cross = summary.get("cross") or {}
    if home_and_away(cross) is None:
        return None
    sites = list(dict.fromkeys(site for one in cross.values() for site in one))
    shared = _shared(summary)
    rows = {f"{one}'s": by_site for one, by_site in cross.items()} | ({"shared model": shared} if shared else {})
    known = [dice for by_site in rows.values() for dice in by_site.values()]
    low, high = min(known), max(known)
    figure, (axes,) = new_figure(1.3 + 0.36 * len(rows))
    heat(axes, [[row.get(site) for site in sites] for row in rows.values()], low, max(high, low + LEAST))
    name_rows(axes, list(rows))
    name_columns(axes, sites)
    axes.set_ylabel("model")
    axes.set_xlabel("patients")
    for place, one in enumerate(cross):
        if one in sites:
            column = sites.index(one)
            axes.plot([column, column + 1, column + 1, column, column],
                      [place, place, place + 1, place + 1, place], color=ink(), linewidth=2, clip_on=False)  # fmt: skip
    said = "; ".join(f"{row} on {_listed(by_site)}" for row, by_site in rows.items())
    alt = f"Dice of each model on each site's patients; the models at home are framed. {said}."
    return to_picture(figure, f"Each site's own model at every site, {name}", alt)


def _shared(summary: Mapping[str, Any]) -> dict[str, float]:
    """The global model's Dice by site; empty where the method has none."""
    entries = {**summary["sites"], **(summary.get("unseen") or {})}
    scored = {site: entry["models"].get("global") for site, entry in entries.items()}
    return {site: over_structures(one, "dice") for site, one in scored.items() if one}


def _listed(by_site: Mapping[str, float]) -> str:
    return wording.listed([f"{site} {wording.score(dice)}" for site, dice in by_site.items()])
