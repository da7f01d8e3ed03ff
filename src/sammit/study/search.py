"""Settings are chosen on validation patients: a search is a study whose rows are the candidates of every method.

Its cells never look at a test patient. What they choose is written to be reviewed and committed, and the study takes it
up from there: before any test patient is scored it is fixed, at the same budget for every method.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING, Any

import tomli_w

from sammit.errors import UserError
from sammit.files import write_atomically
from sammit.reporting.summary import read_summary
from sammit.study.candidates import Chosen
from sammit.study.cells import Cell
from sammit.study.file import Study
from sammit.study.layers import Tables, layered, normal
from sammit.study.schema import need
from sammit.toml import read_toml

if TYPE_CHECKING:
    from sammit.study.plan import Plan

FILE = "chosen.toml"

_HEAD = """\
# Chosen by `sammit study {study} --search` on validation patients; no test patient was looked at.
# Of each dataset, method and unseen site (all: none) the mean validation Dice of each candidate, and the best of them;
# candidate 1 is the method's own settings. Review and commit it beside the study, which takes it up with
#   chosen = "{name}"
"""


def as_search(study: Study) -> Study:
    """The study whose methods are the candidates of `study`, named METHOD.NUMBER, scored on validation patients.

    Raises:
        UserError: there is no search, two candidates of a method are the same, or patients of validation are tested
            under another seed.
    """
    need(bool(study.search.budget), f"{study.path}: has no [search]; give it a budget, and every method its candidates")
    above: Tables = {
        "training": study.search.training,
        # Each site's model at the other sites chooses nothing, so it is not scored.
        "evaluation": {**study.search.evaluation, "scored": "val", "cross_site": False},
    }
    methods, labels = {}, {}
    for name, own in study.methods.items():
        for number, tables in enumerate(study.candidates[name], start=1):
            key = f"{name}.{number}"
            methods[key] = layered(layered(own, normal(tables)), above)
            labels[key] = f"{study.labels[name]}, candidate {number}"
    found = replace(
        study,
        name=f"{study.name}-search",
        kind="search",
        seeds=study.search.seeds,
        methods=methods,
        labels=labels,
        compare=replace(study.compare, pairs=(), reference=""),
        paper=None,
    )
    _check_different(study, found)
    _check_patients(study)
    return found


def _check_different(study: Study, search: Study) -> None:
    """Raise UserError where two candidates of a method are the same: a smaller budget than the others'."""
    for dataset, name in product(study.datasets or {"": {}}, study.methods):
        seen: dict[str, int] = {}
        for number in range(1, study.search.budget + 1):
            same = seen.setdefault(repr(search.example(dataset, f"{name}.{number}")), number)
            need(
                same == number,
                f"{study.path}: methods.{name}.search: candidate {number} is the same as candidate {same} (1 is the "
                "method as it is), and the budget is to be equal; change one",
            )


def _check_patients(study: Study) -> None:
    """Raise UserError where a patient of validation under one seed could be tested under another."""
    if len({*study.seeds, *study.search.seeds}) == 1:
        return
    for dataset, name in product(study.datasets or {"": {}}, study.methods):
        need(
            study.example(dataset, name).data.split_seed >= 0,
            f"{study.path}: data.split_seed: must be 0 or more, one split for all seeds, or patients on whom one "
            "seed's search chooses are tested under another; set it in [common.data]",
        )


def take_up(study: Study) -> Study:
    """The study with what its search chose; as it is where it has no search.

    Raises:
        UserError: nothing was chosen yet, or it was chosen of other candidates.
    """
    if not study.search.budget:
        return study
    _check_patients(study)
    path, again = study.chosen_file, f"sammit study {study.path} --search"
    if path is None:
        raise UserError(f"{study.path}: has a [search]; run {again} first, then name its {FILE} with chosen = ...")
    need(path.is_file(), f"{path}: is not there yet; run {again} first, and put its {FILE} there")
    table = read_toml(path)
    need(
        table.get("search") == study.mark,
        f"{path}: was chosen before candidates or tables of {study.path} changed; run {again}, and put {FILE} there",
    )
    return replace(study, chosen=Chosen(path, table.get("chosen", {})))


def write_chosen(plan: Plan) -> None:
    """Write `chosen.toml` into the search's folder, or leave none there while candidates are missing."""
    path = plan.out / FILE
    if plan.todo:
        path.unlink(missing_ok=True)
        return
    study = plan.study
    head = _HEAD.format(study=study.path.name, name=study.chosen_file.name if study.chosen_file else FILE)
    table: dict[str, Any] = {
        "search": study.mark,
        "budget": study.search.budget,
        "seeds": list(study.seeds),
        "set": list(study.settings),
        "chosen": {},
    }
    for (dataset, method, unseen), scores in _scores(plan).items():
        best = max(scores, key=lambda number: scores[number])  # the first of equals
        tables = study.candidates[method][best - 1]
        choice = {"candidate": best, "dice": [round(scores[number], 5) for number in sorted(scores)]}
        place = table["chosen"].setdefault(dataset, {}).setdefault(method, {})
        place[unseen or "all"] = {**choice, **({"tables": tables} if tables else {})}
    write_atomically(path, head + "\n" + tomli_w.dumps(table))


def _scores(plan: Plan) -> Mapping[tuple[str, str, str], dict[int, float]]:
    """(dataset, method, unseen site) -> candidate -> mean over seeds of the mean validation Dice over sites."""
    found: dict[tuple[str, str, str], dict[int, list[float]]] = {}
    for cell in plan.cells:
        method, _, number = cell.method.rpartition(".")
        one = found.setdefault((cell.dataset, method, cell.unseen), {})
        one.setdefault(int(number), []).append(_dice(cell, plan))
    return {key: {number: sum(dice) / len(dice) for number, dice in one.items()} for key, one in found.items()}


def _dice(cell: Cell, plan: Plan) -> float:
    summary = read_summary(cell.folder(plan.out) / "summary.json")
    return float(summary["mean"]["dice"])
