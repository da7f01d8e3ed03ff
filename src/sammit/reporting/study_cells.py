"""The cells of a study, as their run folders tell of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sammit.errors import UserError
from sammit.reporting.cases import CaseScore, read_cases
from sammit.reporting.summary import Summary, read_summary
from sammit.reporting.wording import scored_part


@dataclass(frozen=True)
class StudyCell:
    """One run of a study.

    Attributes:
        dataset: what the run's sites belong to, as the study calls it.
        method: the method's key in the study.
        label: what a reader is told the method is called; the same in every cell of a method.
        unseen: the site that took no part in the training; "" where all took part.
        seed: of the run.
        folder: the run folder; without a `summary.json` the cell is missing.
    """

    dataset: str
    method: str
    label: str
    unseen: str
    seed: int
    folder: Path

    @property
    def name(self) -> str:
        """The cell in words: nuclei, FedMSA, TNBC unseen, seed 0."""
        unseen = [f"{self.unseen} unseen"] if self.unseen else []
        return ", ".join([self.dataset, self.label, *unseen, f"seed {self.seed}"])


@dataclass(frozen=True)
class Finished:
    """A cell that is there.

    Attributes:
        cell: which.
        summary: its `summary.json`.
        cases: its `cases.csv`.
    """

    cell: StudyCell
    summary: Summary
    cases: Sequence[CaseScore]

    @property
    def entries(self) -> dict[str, Any]:
        """Site -> entry of the summary, for the sites that the cell scores in the study."""
        if self.cell.unseen:
            return {self.cell.unseen: self.summary["unseen"][self.cell.unseen]}
        return dict(self.summary["sites"])


def read_cells(cells: Sequence[StudyCell]) -> list[Finished]:
    """The cells that are there, in the order given.

    Raises:
        UserError: no cells, two cells for one place, two labels for one method, two protocols for one dataset, or a
            run that is not its cell's.
    """
    if not cells:
        raise UserError("a study without cells has no report; name at least one method, dataset and seed")
    _check_plan(cells)
    finished = [_read(cell) for cell in cells if (cell.folder / "summary.json").is_file()]
    for dataset in dict.fromkeys(one.cell.dataset for one in finished):
        protocols = {str(one.summary.get("protocol")) for one in finished if one.cell.dataset == dataset}
        if len(protocols) > 1:
            raise UserError(
                f"{dataset}: cells scored under {' and '.join(sorted(protocols))} cannot share a table; "
                "run all of them under one evaluation.protocol"
            )
    return finished


def _check_plan(cells: Sequence[StudyCell]) -> None:
    places: set[tuple[str, str, str, int]] = set()
    labels: dict[str, str] = {}
    for cell in cells:
        label = labels.setdefault(cell.method, cell.label)
        place = (cell.dataset, cell.method, cell.unseen, cell.seed)
        if place in places:
            raise UserError(f"the study has the cell {cell.name} twice; leave one out")
        places.add(place)
        if cell.label != label:
            raise UserError(f"method '{cell.method}' is called {label} and {cell.label}; choose one label")


def _read(cell: StudyCell) -> Finished:
    path = cell.folder / "summary.json"
    summary = read_summary(path)
    if scored_part(summary) != "test":
        raise UserError(f"{path}: its scores are of validation patients; a study's tables are of test patients alone")
    if cell.unseen and cell.unseen not in (summary.get("unseen") or {}):
        raise UserError(f"{path}: site '{cell.unseen}' was not unseen in this run; run the cell again elsewhere")
    return Finished(cell, summary, read_cases(cell.folder / "cases.csv"))
