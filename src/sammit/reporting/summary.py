"""`summary.json`: what a run came to, made of its per-case rows and of facts about the run.

A site's own half (`summarise_site`) and the joining of sites (`join_sites`) are apart because, in a deployed run, the
first happens at each hospital and only its result reaches the server.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sammit.errors import UserError
from sammit.files import write_atomically
from sammit.reporting.cases import METRICS, MODELS, OVERLAP, CaseScore, check, metrics_of, read_cases, write_cases
from sammit.reporting.statistics import patient_bootstrap

__all__ = [
    "METRICS", "CaseScore", "Facts", "join_sites", "read_cases", "read_summary", "summarise", "summarise_site",
    "write_cases", "write_summary",
]  # fmt: skip

STATISTICS = {"mean", "sd", "low", "high", "cases"}
"""What is told of a metric."""

SiteSummary = dict[str, Any]
"""One site's entry in `summary.json`."""

Summary = dict[str, Any]
"""The whole of `summary.json`."""


@dataclass(frozen=True)
class Facts:
    """What the rows do not say about a run.

    Attributes:
        method, model, dataset, protocol: names; the protocol is "standard" or "fedfms".
        seed, rounds: of the experiment.
        selected_round: the round whose models were tested (0-based, as in `rounds.jsonl`); None where nothing was
            selected.
        reported: site -> one of `cases.MODELS`, the model that the method stands for at that site; a site that is
            not named is reported with the global model.
        unseen: site -> how a method without a model for that site was judged; sites that took no part.
        parameters: "total", "trainable", "shared", "local" (counts).
        traffic: "up_bytes_per_site_round", "down_bytes_per_site_round", "total_bytes".
        seconds: "total", "per_round".
        peak_rss_bytes: largest resident memory of the process.
        scored: whose cases the rows are of: "test", or "val" of a search that leaves the test patients alone.
        steps: "per_site", optimiser steps of a site in the whole run, mean over sites, "last_stage" those of them that
            a last local stage took.
        cross: site whose own model it is -> site whose patients -> Dice; None where nobody asked or lent.
    """

    method: str
    model: str
    dataset: str
    protocol: str
    seed: int
    rounds: int
    selected_round: int | None
    reported: Mapping[str, str] = field(default_factory=dict)
    unseen: Mapping[str, str] = field(default_factory=dict)
    parameters: Mapping[str, int] = field(default_factory=dict)
    traffic: Mapping[str, float] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    peak_rss_bytes: int | None = None
    scored: str = "test"
    steps: Mapping[str, float] = field(default_factory=dict)
    cross: Mapping[str, Mapping[str, float]] | None = None


def summarise(rows: Sequence[CaseScore], facts: Facts) -> Summary:
    """The whole `summary.json` of a run from its per-case rows.

    Sites stand in the order in which they first appear in `rows`. Means, pooled score and worst site are over the
    sites that took part; unseen sites have an entry of their own.

    Raises:
        UserError: a site's reported model has no scored case, or `facts` names a site without rows.
    """
    by_site: dict[str, list[CaseScore]] = {}
    for row in rows:
        by_site.setdefault(row.site, []).append(row)
    for site in [*facts.reported, *facts.unseen]:
        if site not in by_site:
            raise UserError(f"site '{site}' has no scored case: check its test part, or leave the site out")
    entries = {
        site: summarise_site(part, facts.reported.get(site, "global"), facts.seed) for site, part in by_site.items()
    }
    return join_sites(entries, facts)


def summarise_site(rows: Sequence[CaseScore], reported: str, seed: int) -> SiteSummary:
    """One site's entry.

    Args:
        rows: all rows of one site, both models.
        reported: one of `cases.MODELS`.
        seed: keys the bootstrap draws.

    Raises:
        UserError: there is no row of the reported model.
        ValueError: a row without overlap scores, or with a score that is not finite.
    """
    for row in rows:
        check(row)
    own = [row for row in rows if row.model == reported]
    if not own:
        name = rows[0].site if rows else "?"
        raise UserError(f"site '{name}' has no case scored with the {reported} model, which is to be reported")
    models = {name: _scores([row for row in rows if row.model == name], seed) or None for name in MODELS}
    undefined = {name: sum(row.scores.get(name) is None for row in own) for name in metrics_of(own)}
    return {
        "cases": len({row.case for row in own}),
        "patients": len({row.patient for row in own}),
        "reported": reported,
        "models": models,
        "undefined": undefined,
        **{name: over_structures(models[reported] or {}, name) for name in OVERLAP},
    }


def sound_entry(entry: Mapping[str, Any]) -> bool:
    """Whether an entry that came from elsewhere has the form of one, every number finite."""
    try:
        counts = [entry["cases"], entry["patients"], *entry["undefined"].values()]
        tables = [table for table in entry["models"].values() if table is not None]
        cells = [(metric, cell) for table in tables for row in table.values() for metric, cell in row.items()]
        numbers = [number for _, cell in cells for number in cell.values() if number is not None]
        return (
            set(entry) == {"cases", "patients", "reported", "models", "undefined", *OVERLAP}
            and set(entry["models"]) == set(MODELS)
            and entry["models"][entry["reported"]] is not None
            and all(metric in METRICS and set(cell) == STATISTICS for metric, cell in cells)
            and all(type(number) is int and number >= 0 for number in counts)
            and all(math.isfinite(number) for number in (*(entry[name] for name in OVERLAP), *numbers))
        )
    except (KeyError, TypeError, AttributeError):
        return False


def _scores(rows: Sequence[CaseScore], seed: int) -> dict[str, dict[str, dict[str, Any]]]:
    """SCORES of one model at one site: structure -> metric -> statistics."""
    structures = dict.fromkeys(row.structure for row in rows)
    return {
        structure: {
            metric: _statistics([row for row in rows if row.structure == structure], metric, seed)
            for metric in metrics_of(rows)
        }
        for structure in structures
    }


def _statistics(rows: Sequence[CaseScore], metric: str, seed: int) -> dict[str, Any]:
    """Mean, sample sd and 95 % interval over the cases where the metric is defined; None where there are too few."""
    defined = [(row.patient, value) for row in rows if (value := row.scores.get(metric)) is not None]
    patients, values = [patient for patient, _ in defined], [value for _, value in defined]
    count = len(values)
    mean = math.fsum(values) / count if count else None
    sd = math.sqrt(math.fsum((v - (mean or 0.0)) ** 2 for v in values) / (count - 1)) if count > 1 else None
    first = rows[0]
    key = ("interval", seed, first.site, first.structure, first.model, metric)
    low, high = patient_bootstrap(values, patients, key)
    # JSON knows no NaN: what has no value is null.
    return {"mean": mean, "sd": sd, "low": _finite(low), "high": _finite(high), "cases": count}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def over_structures(scores: Mapping[str, Mapping[str, Mapping[str, Any]]], metric: str) -> float:
    """A metric's mean over the structures of one model's SCORES at a site."""
    values = [float(structure[metric]["mean"]) for structure in scores.values()]
    return math.fsum(values) / len(values)


def join_sites(entries: Mapping[str, SiteSummary], facts: Facts) -> Summary:
    """The whole `summary.json` from the entries of the sites, seen and unseen.

    "mean" weighs every site alike, "pooled" weighs it by its cases (the mean over all cases, each case its mean over
    structures, as every case has every structure).
    """
    seen = {site: entry for site, entry in entries.items() if site not in facts.unseen}
    unseen = {site: {**entry, "rule": facts.unseen[site]} for site, entry in entries.items() if site in facts.unseen}
    worst = min(seen, key=lambda site: float(seen[site]["dice"]), default=None)
    return {
        "method": facts.method,
        "model": facts.model,
        "dataset": facts.dataset,
        "protocol": facts.protocol,
        "scored": facts.scored,
        "seed": facts.seed,
        "rounds": facts.rounds,
        "selected_round": facts.selected_round,
        "sites": seen,
        "unseen": unseen or None,
        "mean": {name: _weighted(seen, name, by_cases=False) for name in OVERLAP},
        "pooled": {name: _weighted(seen, name, by_cases=True) for name in OVERLAP},
        "worst_site": {"site": worst, "dice": seen[worst]["dice"]} if worst is not None else None,
        "parameters": dict(facts.parameters),
        "traffic": dict(facts.traffic),
        "steps": dict(facts.steps),
        "cross": facts.cross,
        "seconds": dict(facts.seconds),
        "peak_rss_bytes": facts.peak_rss_bytes,
    }


def _weighted(entries: Mapping[str, SiteSummary], metric: str, by_cases: bool) -> float | None:
    """Mean of a score over sites; None without sites."""
    weights = [float(entry["cases"]) if by_cases else 1.0 for entry in entries.values()]
    values = [float(entry[metric]) for entry in entries.values()]
    total = math.fsum(weights)
    return math.fsum(w * v for w, v in zip(weights, values, strict=True)) / total if total else None


def write_summary(path: Path, summary: Summary) -> None:
    """Write `summary.json` atomically; raises ValueError where a number is NaN or infinite."""
    write_atomically(path, json.dumps(summary, indent=2, allow_nan=False) + "\n")


def read_summary(path: Path) -> Summary:
    """Read `summary.json`; raises UserError where there is none or it is not one."""
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file; let the run finish, or check the path") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a JSON file ({error}); write it again from the run") from None
    if not isinstance(summary, dict) or "sites" not in summary or "method" not in summary:
        raise UserError(f"{path}: no summary of a run; it needs at least 'method' and 'sites'")
    return summary
