"""The models of one run beside each other, on the same patients: mean over sites, worst site, spread between sites."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sammit.reporting import wording
from sammit.reporting.between import Between, of_model
from sammit.reporting.rendering import Cell, Table


def by_model(summary: Mapping[str, Any]) -> Table | None:
    """A row for each model that was scored at every site that took part; None where there are not two such sites."""
    if len(summary["sites"]) < 2:
        return None
    reported = {entry["reported"] for entry in summary["sites"].values()}
    names = dict.fromkeys(name for entry in summary["sites"].values() for name in entry["models"])
    found = [(name, of_model(summary, name)) for name in names]
    rows = tuple(_row(name, one, name in reported) for name, one in found if one is not None)
    columns = (("model", "Model"), ("dice_mean", "Mean over sites"), ("worst", "Worst site"),
               ("dice_worst", "Its Dice"), ("dice_sd_sites", "Spread between sites"),
               ("best_minus_worst", "Best minus worst"))  # fmt: skip
    note = "All models on the same patients, every site alike; the spread is the standard deviation over sites."
    return Table("Dice of each model over the sites that took part.", columns, rows, (note,))


def _row(name: str, one: Between, reported: bool) -> tuple[Cell, ...]:
    label = wording.model(name) + (" (reported)" if reported else "")
    scores = [Cell(wording.score(value), value, strong=reported) for value in (one.worst, one.sd, one.gap)]
    return (
        Cell(label, name, strong=reported),
        Cell(wording.score(one.mean), one.mean, strong=reported),
        Cell(one.worst_site, one.worst_site),
        *scores,
    )
