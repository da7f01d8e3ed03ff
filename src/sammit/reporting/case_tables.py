"""The scores of every case of one run, as a table to sort and search: the rows behind the means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sammit.reporting import wording
from sammit.reporting.cases import LABELS, CaseScore, metrics_of
from sammit.reporting.rendering import Cell, Table

MOST = 1000
"""Rows that a page may have in such tables; a larger one is slow to open and to search."""


def every_case(summary: Mapping[str, Any], cases: Sequence[CaseScore], most: int = MOST) -> Table | None:
    """A row for each case and structure under the model that is reported at its site; None without cases.

    Args:
        summary: `summary.json`.
        cases: the run's rows.
        most: rows; where there are more, those with the lowest Dice stand.
    """
    sites = {**summary["sites"], **(summary.get("unseen") or {})}
    own = [row for row in cases if row.model == sites.get(row.site, {}).get("reported")]
    if not own:
        return None
    shown = sorted(own, key=lambda row: row.scores["dice"] or 0.0)[:most] if len(own) > most else own
    structures, metrics = {row.structure for row in own}, metrics_of(own)
    columns = [("case", "Case"), ("site", "Site"), *[("structure", "Structure")] * (len(structures) > 1)]
    columns += [(name, LABELS.get(name, name)) for name in metrics]
    rows = tuple(
        (
            Cell(row.case, row.case),
            Cell(row.site, row.site),
            *[Cell(row.structure, row.structure)] * (len(structures) > 1),
            *(_score(row, name) for name in metrics),
        )
        for row in shown
    )
    note = f"The {most} rows with the lowest Dice of {len(own)}; cases.csv has all."
    caption = f"Every case of the {wording.scored_part(summary)} part, under the model that is reported at its site."
    return Table(caption, tuple(columns), rows, (note,) if len(own) > most else ())


def _score(row: CaseScore, metric: str) -> Cell:
    """One score; a distance that does not exist says so."""
    value = row.scores.get(metric)
    return Cell("undefined" if value is None else wording.score(value, wording.decimals_of(metric)), value)
