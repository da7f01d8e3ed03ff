"""What a new site's own part is worth: Dice against labelled cases, each compared with the shared part alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sammit.reporting import wording
from sammit.reporting.comparison import ALPHA
from sammit.reporting.rendering import Cell, Table
from sammit.reporting.statistics import holm, paired_difference, paired_wilcoxon, patient_bootstrap, patient_means

OVERLAP = ("dice", "iou")

Summary = dict[str, Any]
"""The whole of `join.json`."""


@dataclass(frozen=True)
class Joined:
    """One model that was scored on the new site's test cases.

    Attributes:
        label: "global", the shared part alone; "experts", with the mean of the source sites' own parts; "cases-N" or
            "cases-all", with the site's own part.
        cases, patients: labelled, of the training; 0 for a model that saw none.
        rows: scores of each test case and structure.
        log: "loss" and "steps" of the training.
    """

    label: str
    cases: int
    patients: int
    rows: Sequence[Mapping[str, Any]]
    log: Mapping[str, float]

    def by_case(self, metric: str, structure: str | None = None) -> dict[tuple[str, str], float]:
        """(patient, test case) -> mean of a metric over its structures, or of one of them."""
        found: dict[tuple[str, str], list[float]] = {}
        for row in self.rows:
            if structure in (None, row["structure"]):
                found.setdefault((row["patient"], row["case"]), []).append(row[metric])
        return {key: math.fsum(values) / len(values) for key, values in found.items()}


@dataclass(frozen=True)
class JoinFacts:
    """What the rows do not say: the site, the run that it joined, how its own part was trained."""

    site: str
    run: str
    method: str
    model: str
    protocol: str
    seed: int
    steps: int
    start: str
    sources: tuple[str, ...]


def summarise_join(models: Sequence[Joined], facts: JoinFacts) -> Summary:
    """`join.json`: every model's means with intervals that resample patients, and its difference to the first one's.

    Args:
        models: the shared part alone first; all on the same test cases.
        facts: what the rows do not say.
    """
    first = models[0].by_case("dice")
    entries = [_entry(model, facts) for model in models]
    others = list(zip(models[1:], entries[1:], strict=True))
    tested = holm([_p(model.by_case("dice"), first) for model, _ in others])
    for (model, entry), p in zip(others, tested, strict=True):
        ours, patients = model.by_case("dice"), [patient for patient, _ in first]
        key = ("join-difference", facts.seed, facts.site, model.label)
        gap = paired_difference([ours[case] for case in first], list(first.values()), patients, key)
        entry["difference"] = {"mean": gap.mean, "low": _finite(gap.low), "high": _finite(gap.high), "p_holm": p}
    test = {"cases": len(first), "patients": len({patient for patient, _ in first})}
    return {**asdict(facts), "sources": list(facts.sources), "test": test, "models": entries}


def _entry(model: Joined, facts: JoinFacts) -> dict[str, Any]:
    """One model, not yet compared."""
    structures = dict.fromkeys(row["structure"] for row in model.rows)

    def mean(metric: str, structure: str | None = None) -> dict[str, float | None]:
        values = model.by_case(metric, structure)
        key = ("join", facts.seed, facts.site, model.label, metric, structure or "")
        low, high = patient_bootstrap(list(values.values()), [patient for patient, _ in values], key)
        return {"mean": math.fsum(values.values()) / len(values), "low": _finite(low), "high": _finite(high)}

    return {
        "model": model.label,
        "cases": model.cases,
        "patients": model.patients,
        **dict(model.log),
        **{metric: mean(metric) for metric in OVERLAP},
        "structures": {structure: mean("dice", structure) for structure in structures},
        "difference": None,
    }


def _p(ours: Mapping[tuple[str, str], float], first: Mapping[tuple[str, str], float]) -> float:
    """Wilcoxon's p-value over patients' means."""
    patients = [patient for patient, _ in first]
    return paired_wilcoxon(
        patient_means([ours[case] for case in first], patients), patient_means(list(first.values()), patients)
    )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None  # JSON knows no NaN


def model_in_words(entry: Mapping[str, Any]) -> str:
    """What a model of `join.json` is."""
    named = {"global": "shared part alone", "experts": "with the mean of the source sites' own parts"}
    if entry["model"] in named:
        return named[entry["model"]]
    whole = "all " if entry["model"] == "cases-all" else ""
    cases, patients = wording.plural(entry["cases"], "labelled case"), wording.plural(entry["patients"], "patient")
    return f"own part, {whole}{cases} of {patients}"


def join_table(summary: Summary) -> Table:
    """A row for each model: Dice and IoU with intervals, and what it gained over the shared part alone."""
    columns = [("model", "Model"), ("cases", "Labelled cases"), ("dice", "Dice [95 %]"), ("iou", "IoU [95 %]")]
    columns += [("difference", "Gain in Dice [95 %]"), ("p_holm", "Wilcoxon, Holm")]
    best = max(summary["models"], key=lambda entry: float(entry["dice"]["mean"]))
    rows = []
    for entry in summary["models"]:
        scores = [_with_interval(entry[metric], strong=entry is best and metric == "dice") for metric in OVERLAP]
        gap = entry["difference"]
        gain = _with_interval(gap) if gap else Cell(wording.NONE, None)
        p = Cell(wording.p_value(gap["p_holm"]), gap["p_holm"]) if gap else Cell(wording.NONE, None)
        text = model_in_words(entry)
        rows.append((Cell(text, entry["model"]), Cell(str(entry["cases"]), entry["cases"]), *scores, gain, p))
    patients = wording.plural(summary["test"]["patients"], "test patient")
    notes = (
        f"Intervals resample the {patients} of {summary['site']}; p-values are Wilcoxon's signed-rank test on "
        "patients' mean Dice, after Holm's correction. The highest mean is in bold.",
    )
    caption = f"{summary['site']} joins {summary['run']}: test patients (protocol: {summary['protocol']})."
    return Table(caption, tuple(columns), tuple(rows), notes)


def _with_interval(number: Mapping[str, Any], strong: bool = False) -> Cell:
    text = wording.score_with_interval(number["mean"], number["low"], number["high"])
    return Cell(text, number["mean"], strong=strong)


def in_a_sentence(summary: Summary) -> str:
    """What the most labelled cases brought, on how many test patients, and whether the test can tell."""
    first, last = summary["models"][0], summary["models"][-1]
    gap, test = last["difference"], summary["test"]
    told = gap["low"] is not None and gap["low"] * gap["high"] > 0 and gap["p_holm"] < ALPHA
    how = ("better" if gap["mean"] > 0 else "worse") if told else "no difference that these patients can tell"
    labels = f"{wording.plural(last['cases'], 'labelled case')} of {wording.plural(last['patients'], 'patient')}"
    tested = f"{wording.plural(test['cases'], 'test case')} of {wording.plural(test['patients'], 'patient')}"
    name, own, shared = summary["site"], wording.score(last["dice"]["mean"]), wording.score(first["dice"]["mean"])
    gain = wording.score_with_interval(gap["mean"], gap["low"], gap["high"])
    return (
        f"With {labels}, {name}'s own part brings a Dice of {own} against {shared} of the shared part alone, "
        f"on {tested}: {how} ({gain}, {wording.p_value(gap['p_holm'])})."
    )


def how_it_was_done(summary: Summary) -> str:
    """How the new site's own part was trained."""
    starts = {"untrained": "as it was before the run", "mean": f"the mean of {wording.listed(summary['sources'])}"}
    run = f"the run {summary['run']} ({summary['method']}, {summary['model']})"
    return (
        f"{summary['site']} took no part in {run}. The shared part stayed as it was. The site's own part started from "
        f"{starts[summary['start']]} and took {wording.plural(summary['steps'], 'step')} on each number of labelled "
        "cases, the fewer always among the more. Validation patients picked nothing."
    )
