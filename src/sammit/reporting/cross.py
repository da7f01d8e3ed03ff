"""Each site's own model on the patients of every site: rows, the matrix of them, and what it says.

Only a simulated run has such rows: across hospitals no site lends its own model to another.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from sammit.errors import UserError
from sammit.files import write_atomically
from sammit.reporting import wording
from sammit.reporting.columns import open_table

COLUMNS = ("site", "case", "patient", "structure", "model_of", "dice")

Matrix = Mapping[str, Mapping[str, float]]
"""Site whose model it is -> site whose patients these are -> Dice, mean over cases and structures."""


@dataclass(frozen=True)
class CrossScore:
    """What one site's own model scored on one structure of a case of some site, in the order of `COLUMNS`.

    Attributes:
        site, case, patient, structure: of whom, and of what.
        model_of: the site whose own model it is; `site` itself where the model is at home.
        dice: in [0, 1].
    """

    site: str
    case: str
    patient: str
    structure: str
    model_of: str
    dice: float


def write_cross(path: Path, rows: Iterable[CrossScore]) -> None:
    """Write rows as CSV, atomically; numbers are written exactly."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    table.writerows(astuple(row) for row in rows)
    write_atomically(path, text.getvalue())


def read_cross(path: Path) -> list[CrossScore]:
    """Read rows as `write_cross` wrote them.

    Raises:
        UserError: no such file, a missing column, or a Dice that is no number, with its line.
    """
    rows, table = [], open_table(path, COLUMNS, COLUMNS)
    for record in table:
        site, case, patient, structure, model_of, text = (record[name] or "" for name in COLUMNS)
        try:
            rows.append(CrossScore(site, case, patient, structure, model_of, float(text)))
        except ValueError:
            raise UserError(f"{path}, line {table.line_num}: dice is '{text}', not a number; mend the line") from None
    return rows


def matrix(rows: Iterable[CrossScore]) -> dict[str, dict[str, float]]:
    """The matrix of some rows; models in the order of the sites, sites in that of the rows."""
    gathered: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        gathered.setdefault(row.model_of, {}).setdefault(row.site, []).append(row.dice)
    sites = list(dict.fromkeys(site for by_site in gathered.values() for site in by_site))
    models = [site for site in sites if site in gathered] + [one for one in gathered if one not in sites]
    return {
        one: {site: math.fsum(values) / len(values) for site in sites if (values := gathered[one].get(site))}
        for one in models
    }


def home_and_away(cross: Matrix) -> tuple[float, float] | None:
    """Mean Dice of the models at home and at the homes of the others; None without two models that are both at home.

    Sites without a model of their own are left out: what a model scores there has nothing at home to stand beside.
    """
    sites = [site for site in cross if site in cross[site]]
    home = [cross[site][site] for site in sites]
    away = [cross[one][site] for one in sites for site in sites if one != site and site in cross[one]]
    if not away:
        return None
    return math.fsum(home) / len(home), math.fsum(away) / len(away)


def reading(summary: Mapping[str, Any]) -> str:
    """How much better a site's own model is at home than elsewhere, in a sentence; "" without a matrix."""
    found = home_and_away(summary.get("cross") or {})
    if found is None:
        return ""
    home, away = found
    gap = home - away
    how = f"{wording.score(abs(gap))} {'more' if gap >= 0 else 'less'}"
    return (
        f"A site's own model scores a Dice of {wording.score(home)} at home and {wording.score(away)} at the other "
        f"sites that trained, that is {how} at home."
    )
