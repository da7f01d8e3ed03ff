"""A study's numbers for a machine: `table.csv` has a row for each score, `differences.csv` one for each comparison."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Sequence
from typing import Any

from sammit.reporting.statistics import Difference
from sammit.reporting.study_results import MEAN, Line, Result
from sammit.reporting.study_versus import Versus

SCORES = (
    "dataset", "method", "label", "site", "unseen", "structure", "metric", "model", "reported", "rule", "mean",
    "sd_seeds", "low", "high", "cases", "patients", "seeds", "undefined", "protocol", "paper", "missing",
)  # fmt: skip
DIFFERENCES = (
    "dataset", "comparison", "method", "other", "site", "unseen", "difference", "low", "high", "cases", "patients",
    "p_holm", "margin", "verdict", "missing",
)  # fmt: skip


def scores_csv(results: Sequence[Result]) -> str:
    """Every score of every site and of the mean over sites; numbers unrounded, what does not exist left empty."""
    return _text(SCORES, [row for result in results for row in _scores(result)])


def _scores(result: Result) -> Iterator[dict[str, Any]]:
    block = result.block
    for line in [*result.lines, *result.beside]:
        for place in result.places:
            for structure in block.structures:
                for metric in result.metrics_of(structure):
                    yield {
                        **_who(result, line, place),
                        "structure": structure,
                        "metric": metric,
                        **_estimate(result, line, place, structure, metric),
                    }


def _who(result: Result, line: Line, place: str) -> dict[str, Any]:
    at = line if place == MEAN else line.judged[place]
    return {
        "dataset": result.block.dataset,
        "method": line.method,
        "label": line.label,
        "site": place,
        "unseen": _yes(result.block.unseen),
        "model": line.models if isinstance(at, Line) else at.model,
        "reported": _yes(not line.model),
        "rule": at.rule,
        "protocol": result.block.protocol,
    }


def _estimate(result: Result, line: Line, place: str, structure: str, metric: str) -> dict[str, Any]:
    one = result.estimate(line, place, structure, metric)
    return {
        "mean": one.mean,
        "sd_seeds": one.sd,
        "low": one.low,
        "high": one.high,
        "cases": one.cases,
        "patients": one.patients,
        "seeds": len(one.seeds),
        "undefined": one.undefined,
        "paper": result.printed(line, place, structure, metric),
        "missing": "; ".join(one.missing),
    }


def differences_csv(results: Sequence[Result]) -> str:
    """Each method minus the best, and each federated method minus its centralised counterpart, in Dice."""
    return _text(DIFFERENCES, [row for result in results for row in _differences(result)])


def _differences(result: Result) -> Iterator[dict[str, Any]]:
    best = result.ranking.best
    for method, versus in result.ranking.others.items() if best is not None else ():
        yield from _versus(result, "against the best", (method, best or ""), versus, {})
    for pair in result.pairs:
        more = {"margin": result.margin, "verdict": pair.verdict}
        names = (pair.federated, pair.centralised)
        yield from _versus(result, "federated minus centralised", names, pair.versus, more)


def _versus(
    result: Result, comparison: str, names: tuple[str, str], versus: Versus | None, more: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """All sites pooled with the test, then each site."""
    who = {"dataset": result.block.dataset, "comparison": comparison, "method": names[0], "other": names[1],
           "unseen": _yes(result.block.unseen)}  # fmt: skip
    if versus is None:
        yield {**who, "site": "all sites", "missing": "a site without a finished cell"}
        return
    pooled = {"patients": versus.patients, "p_holm": versus.p, **more}
    yield {**who, "site": "all sites", **_difference(versus.pooled), **pooled}
    for site, one in versus.sites.items():
        yield {**who, "site": site, **_difference(one)}


def _difference(one: Difference) -> dict[str, Any]:
    return {"difference": one.mean, "low": one.low, "high": one.high, "cases": one.cases}


def _text(columns: Sequence[str], rows: Sequence[dict[str, Any]]) -> str:
    text = io.StringIO()
    table = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    table.writeheader()
    table.writerows({name: _field(value) for name, value in row.items()} for row in rows)
    return text.getvalue()


def _field(value: Any) -> Any:
    return "" if value is None or (isinstance(value, float) and not math.isfinite(value)) else value


def _yes(flag: bool) -> str:
    return "yes" if flag else "no"
