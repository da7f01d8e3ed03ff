"""A study's numbers for a machine: `table.csv` has a row for each score, `differences.csv` one for each comparison.

`methods.csv` has one for each model of a method, and `against-NAME.csv` one for each method beside the reference.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Sequence
from typing import Any

from sammit.reporting.statistics import Difference
from sammit.reporting.study_against import Against, Gap
from sammit.reporting.study_costs import costs_of
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
METHODS = (
    "dataset", "unseen", "method", "label", "model", "reported", "seeds", "dice_mean", "sd_seeds", "low", "high",
    "dice_worst", "worst_site", "sd_sites", "best_minus_worst", "up_bytes_per_site_round", "down_bytes_per_site_round",
    "total_bytes", "parameters_shared", "parameters_trained", "steps", "missing",
)  # fmt: skip
AGAINST = (
    "dataset", "unseen", "method", "label", "reference", "over", "difference", "low", "high", "p_holm", "verdict",
    "patients", "seeds", "up_bytes_per_site_round", "sends_no_more", "missing",
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


def methods_csv(results: Sequence[Result]) -> str:
    """Dice over sites and costs of every method: the model that stands for it, then the others that were scored."""
    return _text(METHODS, [row for result in results for row in _methods(result)])


def _methods(result: Result) -> Iterator[dict[str, Any]]:
    for line in [*result.lines, *result.beside]:
        one, costs = result.headline(line), costs_of(result.block.summaries(line.method))
        apart = result.between(line, result.block.headline, "dice")
        yield {
            **{name: value for name, value in _who(result, line, MEAN).items() if name in METHODS},
            "seeds": len(one.seeds),
            "dice_mean": one.mean,
            "sd_seeds": one.sd,
            "low": one.low,
            "high": one.high,
            "dice_worst": apart and apart.worst,
            "worst_site": apart and apart.worst_site,
            "sd_sites": apart and apart.sd,
            "best_minus_worst": apart and apart.gap,
            "up_bytes_per_site_round": costs.up,
            "down_bytes_per_site_round": costs.down,
            "total_bytes": costs.total,
            "parameters_shared": costs.shared,
            "parameters_trained": costs.trainable,
            "steps": costs.steps,
            "missing": "; ".join(one.missing),
        }


def against_csv(results: Sequence[Result]) -> str:
    """Every method minus the reference, in Dice: the mean over sites, then the worst site."""
    return _text(AGAINST, [row for result in results for one in result.against for row in _against(result, one)])


def _against(result: Result, one: Against) -> Iterator[dict[str, Any]]:
    who = {
        "dataset": result.block.dataset,
        "unseen": _yes(result.block.unseen),
        "method": one.method,
        "label": result.block.labels[one.method],
        "reference": result.reference,
        "seeds": len(one.seeds),
        "up_bytes_per_site_round": one.up,
        "sends_no_more": None if one.thrifty is None else _yes(one.thrifty),
    }
    for over, gap in ((MEAN, one.mean), ("worst site", one.worst)):
        yield {**who, "over": over, **_gap(gap)}


def _gap(gap: Gap | None) -> dict[str, Any]:
    if gap is None:
        return {"missing": "no seed has every site under both"}
    return {
        "difference": gap.apart.difference,
        "low": gap.apart.low,
        "high": gap.apart.high,
        "p_holm": gap.p,
        "verdict": gap.verdict,
        "patients": gap.patients,
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
