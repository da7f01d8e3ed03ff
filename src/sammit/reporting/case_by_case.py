"""Two methods case by case: every case's scores, compact enough to stand in a page whose reader chooses the methods.

Scores are kept for each seed, since a case of two methods is compared over the seeds that both have it under. What does
not fit is left out in a fixed order, and the page says what.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sammit.reporting import wording
from sammit.reporting.cases import LABELS, OVERLAP
from sammit.reporting.study_scores import ALL, CaseKey, Scores

SCALES = {"dice": 100_000, "hd95": 100}
"""The scores that are compared, and what they are multiplied by to stand in the page as whole numbers."""

UNDEFINED = -1
"""Stands where a case was scored and has no value; null where it was not scored."""

Runs = Mapping[tuple[str, str], Scores]
"""(site, run) -> scores of the model that stands for a method at the site; a run is what methods can share: a seed."""


@dataclass(frozen=True)
class Scored:
    """What is to be compared.

    Attributes:
        methods: key -> its runs.
        labels: key -> what the method is called.
        sites: in the order in which they are shown.
        structures: names, the one on which methods are compared last.
        unit: of distances, "" where it is not known or not the same everywhere.
        first: keys, those to show first in front.
    """

    methods: Mapping[str, Runs]
    labels: Mapping[str, str]
    sites: Sequence[str]
    structures: Sequence[str]
    unit: str
    first: Sequence[str]


@dataclass(frozen=True)
class CaseByCase:
    """What the template shows.

    Attributes:
        methods, structures, scores, sites: names to choose from.
        chosen: the places of the two methods that are shown first.
        lacking: what was left out for the sake of size, in a sentence; "" where everything is there.
        data: JSON that cannot end the element it stands in.
    """

    methods: tuple[str, ...]
    structures: tuple[str, ...]
    scores: tuple[str, ...]
    sites: tuple[str, ...]
    chosen: tuple[int, int]
    lacking: str
    data: str


@dataclass(frozen=True)
class _Cut:
    """What is kept: structures, scores, and of each site's cases every `step`-th."""

    structures: tuple[str, ...]
    metrics: tuple[str, ...]
    step: int


def case_by_case(scored: Scored, budget: int) -> CaseByCase | None:
    """The scores in at most `budget` bytes; None where there are not two methods with cases.

    Distances go first where there is not room for all, then all structures but the one on which methods are compared,
    then cases: every second, every fourth, and so on, by name.
    """
    methods = {key: runs for key, runs in scored.methods.items() if any(runs.values())}
    if len(methods) < 2:
        return None
    labels = tuple(scored.labels[key] for key in methods)
    cases = _cases(methods, scored.sites)
    metrics = _metrics(methods)
    for cut in _cuts(scored.structures, metrics, max(map(len, cases.values()))):
        data = _json(labels, list(methods.values()), cases, cut, scored.unit)
        if len(data) <= budget:
            break
    keys = list(methods)
    order = list(dict.fromkeys([*(keys.index(key) for key in scored.first if key in methods), *range(len(keys))]))
    return CaseByCase(
        methods=labels,
        structures=cut.structures,
        scores=tuple(_score_name(metric, scored.unit) for metric in cut.metrics),
        sites=tuple(cases),
        chosen=(order[0], order[1]),
        lacking=_lacking(scored.structures, metrics, cut),
        data=data,
    )


def _cases(methods: Mapping[str, Runs], sites: Sequence[str]) -> dict[str, list[CaseKey]]:
    """Site -> the cases that any method has there under any run, by name."""
    found: dict[str, set[CaseKey]] = {site: set() for site in sites}
    for runs in methods.values():
        for (site, _), scores in runs.items():
            found[site].update(case for part in scores.values() for case in part)
    return {site: sorted(cases, key=lambda case: (case[1], case[0])) for site, cases in found.items() if cases}


def _metrics(methods: Mapping[str, Runs]) -> tuple[str, ...]:
    """The scores that are compared and that any case has."""
    rows = (
        row
        for runs in methods.values()
        for scores in runs.values()
        for part in scores.values()
        for row in part.values()
    )
    known = {metric for row in rows for metric in row}
    return tuple(metric for metric in SCALES if metric in known)


def _cuts(structures: Sequence[str], metrics: tuple[str, ...], most: int) -> list[_Cut]:
    """From everything to ever less."""
    step, cuts = 1, [_Cut(tuple(structures), metrics, 1), _Cut(tuple(structures), OVERLAP[:1], 1)]
    while step <= most:
        cuts.append(_Cut((structures[-1],), OVERLAP[:1], step))
        step *= 2
    return cuts


def _json(
    labels: Sequence[str], methods: Sequence[Runs], cases: Mapping[str, Sequence[CaseKey]], cut: _Cut, unit: str
) -> str:
    """What the page's script reads, see `pairs.js`."""
    kept = {site: own[:: cut.step] for site, own in cases.items()}
    runs = sorted({run for own in methods for _, run in own})
    table = {
        "methods": labels,
        "sites": list(kept),
        "cases": [[case for _, case in own] for own in kept.values()],
        "structures": cut.structures,
        "scores": [
            {"name": _score_name(metric, unit), "scale": SCALES[metric], "digits": wording.decimals_of(metric),
             "higher": metric in OVERLAP}
            for metric in cut.metrics
        ],
        "values": [
            [[[_column(own, kept, run, structure, metric) for run in runs] for metric in cut.metrics]
             for structure in cut.structures]
            for own in methods
        ],
    }  # fmt: skip
    # A name may hold what would end the element: "</script>".
    return json.dumps(table, separators=(",", ":"), ensure_ascii=False).replace("<", "\\u003c")


def _column(
    runs: Runs, cases: Mapping[str, Sequence[CaseKey]], run: str, structure: str, metric: str
) -> list[int | None] | int:
    """One score of all cases of all sites under one run, 0 where none has it."""
    if structure == ALL and metric not in OVERLAP:
        return 0
    rows = [(runs.get((site, run)) or {}).get(structure, {}).get(case) for site, own in cases.items() for case in own]
    return [_whole(row, metric) for row in rows] if any(row is not None for row in rows) else 0


def _whole(row: Mapping[str, Any] | None, metric: str) -> int | None:
    if row is None:
        return None
    value = row.get(metric)
    return UNDEFINED if value is None else round(value * SCALES[metric])


def _score_name(metric: str, unit: str) -> str:
    """Dice, or HD95 (mm)."""
    return LABELS[metric] + (f" ({unit})" if metric not in OVERLAP and unit else "")


def _lacking(structures: Sequence[str], metrics: Sequence[str], cut: _Cut) -> str:
    """What is not there, and where it is."""
    gone = [LABELS[metric] for metric in metrics if metric not in cut.metrics]
    gone += ["single structures"] if len(cut.structures) < len(structures) else []
    said = [f"{wording.listed(gone)} left out"] if gone else []
    said += [f"of each site's cases one in {cut.step} is kept, in order of their names"] if cut.step > 1 else []
    return f"To keep this file small: {wording.listed(said)}. Each run's cases.csv has everything." if said else ""
