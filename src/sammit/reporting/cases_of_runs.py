"""The cases of runs that stand side by side, method by method, for a reader to compare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sammit.reporting.case_by_case import Scored
from sammit.reporting.cases import CaseScore
from sammit.reporting.folder import RunFolder
from sammit.reporting.study_scores import ALL, Scores, by_structure


def cases_of_runs(runs: Sequence[RunFolder], labels: Sequence[str], first: Sequence[str]) -> Scored:
    """Every case under the model that is reported at its site.

    Args:
        runs: in the order in which they are shown; one without cases adds nothing.
        labels: what each run's method is called; runs of one label are its seeds.
        first: labels, those to show first in front.
    """
    methods: dict[str, dict[tuple[str, str], Scores]] = {label: {} for label in labels}
    for label, run in zip(labels, runs, strict=True):
        for place, rows in _by_place(run).items():
            methods[label][place, _free(methods[label], place, f"seed {run.summary.get('seed')}")] = by_structure(rows)
    places = dict.fromkeys(place for own in methods.values() for place, _ in own)
    structures = dict.fromkeys(name for own in methods.values() for scores in own.values() for name in scores)
    units = {row.unit for run in runs for row in run.cases or ()}
    return Scored(
        methods=methods,
        labels={label: label for label in methods},
        sites=list(places),
        structures=sorted(structures, key=lambda name: name == ALL),
        unit=units.pop() if len(units) == 1 else "",
        first=first,
    )


def _by_place(run: RunFolder) -> dict[str, list[CaseScore]]:
    """Site, marked where it took no part in the training -> rows of the reported model."""
    unseen = run.summary.get("unseen") or {}
    entries = {**run.summary["sites"], **unseen}
    found: dict[str, list[CaseScore]] = {}
    for row in run.cases or ():
        if row.model == entries.get(row.site, {}).get("reported"):
            found.setdefault(f"{row.site} (unseen)" if row.site in unseen else row.site, []).append(row)
    return found


def _free(taken: Mapping[tuple[str, str], Scores], place: str, name: str) -> str:
    """The name of a run, told apart from a run of the same method and seed at the same site."""
    number = 1
    while (place, name if number == 1 else f"{name}, {number}") in taken:
        number += 1
    return name if number == 1 else f"{name}, {number}"
