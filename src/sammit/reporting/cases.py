"""The rows behind every number: `cases.csv`, one row for each case, structure and model of the test part."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from sammit.errors import UserError
from sammit.files import write_atomically
from sammit.reporting.columns import open_table

OVERLAP = ("dice", "iou")
"""Scores in [0, 1] that every case has."""

DISTANCES = ("hd95", "assd", "nsd")
"""Scores of the surfaces: HD95 and ASSD in mm or pixels, undefined where one mask is empty; NSD in [0, 1]."""

METRICS = OVERLAP + DISTANCES
LABELS = {"dice": "Dice", "iou": "IoU", "hd95": "HD95", "assd": "ASSD", "nsd": "NSD"}
MODELS = ("global", "personal", "sources", "experts")
"""What is scored; the last two at unseen sites only: the mean score of the source sites' own models, and the shared
part with the mean of their personal tensors."""

_WHO = ("site", "case", "patient", "structure", "model")


@dataclass(frozen=True)
class CaseScore:
    """What one model scored on one structure of one case.

    Attributes:
        site, case, patient, structure: whose, which, and of what.
        model: one of `MODELS`.
        scores: metric -> value; None where a distance is undefined (truth or prediction empty). Dice and IoU are
            always there.
        unit: of the distances: "mm", "px", or "" where there are none.
    """

    site: str
    case: str
    patient: str
    structure: str
    model: str
    scores: Mapping[str, float | None]
    unit: str = ""


def metrics_of(rows: Iterable[CaseScore]) -> list[str]:
    """The metrics that any row has, in the order of `METRICS`, others after them by name."""
    seen = {name for row in rows for name in row.scores}
    return [name for name in METRICS if name in seen] + sorted(seen - set(METRICS))


def write_cases(path: Path, rows: Iterable[CaseScore]) -> None:
    """Write rows as CSV, atomically. Numbers are written exactly; an undefined distance is an empty field.

    Raises:
        ValueError: a row without Dice or IoU, or a score that is NaN or infinite (undefined is None).
    """
    rows = list(rows)
    metrics = metrics_of(rows) or list(OVERLAP)
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    units = ("unit",) if any(row.unit for row in rows) else ()
    who = (*_WHO, *units)
    table.writerow([*who, *metrics])
    for row in rows:
        check(row)
        values = [row.scores.get(name) for name in metrics]
        table.writerow([*(getattr(row, name) for name in who), *("" if v is None else repr(float(v)) for v in values)])
    write_atomically(path, text.getvalue())


def check(row: CaseScore) -> None:
    """Raise ValueError where a row could not stand in `cases.csv`."""
    where = f"{row.site}/{row.case}/{row.structure}/{row.model}"
    missing = [name for name in OVERLAP if row.scores.get(name) is None]
    if missing:
        raise ValueError(f"{where}: {missing[0]} is missing, but overlap is defined for every case")
    bad = [name for name, value in row.scores.items() if value is not None and not math.isfinite(value)]
    if bad:
        raise ValueError(f"{where}: {bad[0]} is not finite; an undefined distance is None")
    if row.model not in MODELS:
        raise ValueError(f"{where}: the model must be one of {', '.join(MODELS)}")


def read_cases(path: Path) -> list[CaseScore]:
    """Read rows as `write_cases` wrote them.

    Raises:
        UserError: no such file, a missing column, or a field that cannot be right, with its line.
    """
    table = open_table(path, (*_WHO, *OVERLAP), (*_WHO, *METRICS))
    metrics = [name for name in table.fieldnames or () if name not in (*_WHO, "unit")]
    return [_row(record, metrics, f"{path}, line {table.line_num}") for record in table]


def _row(record: Mapping[str, str | None], metrics: list[str], where: str) -> CaseScore:
    """One line of the file, checked."""
    scores = {name: _number(record.get(name), name, where) for name in metrics}
    site, case, patient, structure, model = (record[name] or "" for name in _WHO)
    row = CaseScore(site, case, patient, structure, model, scores, record.get("unit") or "")
    try:
        check(row)
    except ValueError as error:
        raise UserError(f"{where}: {error}") from None
    return row


def _number(text: str | None, name: str, where: str) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        raise UserError(f"{where}: {name} is '{text}', not a number; mend the line") from None
