"""Sammit's tables: `compare` sets methods side by side; `overview`, `unseen_models` and `results` show one run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sammit.reporting import wording
from sammit.reporting.cases import LABELS, METRICS, CaseScore
from sammit.reporting.comparison import ALPHA, Compared, Spread, compare_runs, places
from sammit.reporting.rendering import Cell, Table, to_csv, to_html, to_latex, to_markdown
from sammit.reporting.summary import over_structures

__all__ = [
    "TIED", "Cell", "Table", "compare", "overview", "results", "to_csv", "to_html", "to_latex", "to_markdown",
    "unseen_models", "verdict",
]  # fmt: skip


TIED = "≈"
"""Stands beside a mean that the test cannot tell from the best."""


def compare(summaries: Sequence[tuple[str, Mapping[str, Any]]], cases: Sequence[Sequence[CaseScore]] = ()) -> Table:
    """One row a method: Dice by site, mean, worst site, what travels, and the test against the best.

    Args:
        summaries: (label, `summary.json`); several runs of one label are averaged, with the sd over them.
        cases: the rows of each run, in the same order; without them nothing is tested.

    Raises:
        UserError: nothing to compare, or runs scored under different protocols.
    """
    entries = compare_runs(summaries, cases)
    sites = places([summary for _, summary in summaries])
    # Where only unseen sites have a score, their mean is the one that counts.
    seen, unseen = any(not flag for _, flag in sites), any(flag for _, flag in sites)
    columns = [("method", "Method"), ("seeds", "Seeds")]
    columns += [(f"dice_{'unseen_' * flag}{site}", f"{site} (unseen)" if flag else site) for site, flag in sites]
    columns += [("dice_mean", "Mean")] * seen + [("dice_mean_unseen", "Mean unseen")] * unseen
    columns += [("dice_worst", "Worst site"), ("dice_sd_sites", "Spread between sites")] * seen
    beside = any(entry.global_mean.mean is not None for entry in entries)
    columns += [("dice_mean_global", "Shared model's mean")] * beside + [("shared_parameters", "Parameters shared")]
    columns += [("up_bytes_per_site_round", "Up per site and round"), ("down_bytes_per_site_round", "Down")]
    columns += [("difference", "Difference to best [95 %]"), ("p_holm", "Wilcoxon, Holm")]
    rows = tuple(
        (
            Cell(entry.label, entry.label, strong=entry.best),
            Cell(str(len(entry.seeds)), len(entry.seeds)),
            *(_spread(entry.dice.get(place)) for place in sites),
            *[_leading(entry, entry.mean)] * seen,
            *[_spread(entry.unseen) if seen else _leading(entry, entry.unseen)] * unseen,
            *[_worst(entry), Cell(wording.score(entry.apart), entry.apart)] * seen,
            *[_spread(entry.global_mean)] * beside,
            Cell(wording.count(entry.shared), entry.shared),
            Cell(wording.size(entry.up_bytes), entry.up_bytes),
            Cell(wording.size(entry.down_bytes), entry.down_bytes),
            _difference(entry),
            Cell(verdict(entry), entry.p),
        )
        for entry in entries
    )
    dice = "Dice" if wording.scored_part(summaries[0][1]) == "test" else "Validation Dice"
    title = f"{dice} by method and site (protocol: {summaries[0][1].get('protocol')})."
    return Table(title, tuple(columns), rows, _notes(entries))


def _spread(spread: Spread | None, strong: bool = False) -> Cell:
    spread = spread or Spread(None, None)
    return Cell(wording.score_with_sd(spread.mean, spread.sd), spread.mean, spread.sd, strong)


def _leading(entry: Compared, spread: Spread) -> Cell:
    """The mean by which methods are ranked: the best in bold, those that the test cannot tell from it marked."""
    cell = _spread(spread, entry.best)
    return replace(cell, text=f"{cell.text} {TIED}") if tied(entry) else cell


def tied(entry: Compared) -> bool:
    """Whether an entry was tested against the best and the test found no difference."""
    return not entry.best and entry.p is not None and entry.p >= ALPHA


def _worst(entry: Compared) -> Cell:
    cell = _spread(entry.worst)
    return Cell(f"{cell.text} ({entry.worst_site})" if entry.worst_site else cell.text, cell.value, cell.sd)


def _difference(entry: Compared) -> Cell:
    gap = entry.difference
    return (
        Cell(wording.NONE, None)
        if gap is None
        else Cell(wording.score_with_interval(gap.mean, gap.low, gap.high), gap.mean)
    )


def verdict(entry: Compared) -> str:
    """What the test says of an entry, in words."""
    if entry.best:
        return "best mean"
    if entry.p is None or entry.difference is None:
        return "not tested, as no cases are in common"
    if tied(entry):
        return f"difference not significant ({wording.p_value(entry.p)})"
    return f"{'lower' if entry.difference.mean < 0 else 'higher'} ({wording.p_value(entry.p)})"


def _notes(entries: Sequence[Compared]) -> tuple[str, ...]:
    """What a reader must know to read the comparison."""
    notes = ["Mean weighs every site alike; the best mean is in bold, whether or not it is significantly better."]
    if any(tied(entry) for entry in entries):
        notes.append(f"{TIED}: not significantly different from the best.")
    if any(entry.apart is not None for entry in entries):
        notes.append("The spread is the standard deviation over sites.")
    if any(entry.global_mean.mean is not None for entry in entries):
        notes.append("The shared model's mean is that of the global model on the same cases as the sites' own models.")
    if any(len(entry.seeds) > 1 for entry in entries):
        notes.append("± is the standard deviation over runs (seeds).")
    if any(entry.p is not None for entry in entries):
        notes.append(
            "Differences to the best are over the cases both have, with a 95 % interval that resamples patients; "
            "p-values are Wilcoxon's signed-rank test on patients' mean Dice, after Holm's correction."
        )
    return tuple(notes)


def overview(summary: Mapping[str, Any]) -> Table:
    """One run: a row for each site with the reported model's Dice and IoU over structures, then their means."""
    # Scores stand next to the name, where a phone shows them without scrolling.
    columns = [("site", "Site"), ("dice", "Dice"), ("iou", "IoU")]
    columns += [("reported", "Reported model"), ("cases", "Cases"), ("patients", "Patients")]
    rows = [_overview_row(site, entry) for site, entry in summary["sites"].items()]
    rows += [_overview_row(f"{site} (unseen)", entry) for site, entry in (summary.get("unseen") or {}).items()]
    blank, parts = [Cell("", "")] * 3, len(rows)
    for name, key in (("Mean over sites", "mean"), ("Pooled over cases", "pooled")):
        if (summary.get(key) or {}).get("dice") is not None:
            scores = [
                Cell(wording.score(summary[key][m]), summary[key][m], strong=key == "mean") for m in ("dice", "iou")
            ]
            rows.append((Cell(name, name, strong=key == "mean"), *scores, *blank))
    return Table("Test part, mean over structures.", tuple(columns), tuple(rows), totals=len(rows) - parts)


def _overview_row(site: str, entry: Mapping[str, Any]) -> tuple[Cell, ...]:
    numbers = [Cell(str(entry[name]), entry[name]) for name in ("cases", "patients")]
    scores = [Cell(wording.score(entry[name]), entry[name]) for name in ("dice", "iou")]
    return Cell(site, site), *scores, Cell(wording.model(entry["reported"]), entry["reported"]), *numbers


def unseen_models(summary: Mapping[str, Any]) -> Table | None:
    """One run: each model that was scored at a site that took no part; None where all sites took part."""
    rows = tuple(
        _unseen_row(site, entry, model)
        for site, entry in (summary.get("unseen") or {}).items()
        for model, structures in entry["models"].items()
        if structures
    )
    if not rows:
        return None
    columns = (("site", "Unseen site"), ("dice", "Dice"), ("iou", "IoU"), ("model", "Model"), ("rule", "Rule"))
    notes = ("The reported model, in bold, is the one that the method stands for at a site it has not seen.",)
    return Table("Sites that took no part, mean over structures.", columns, rows, notes)


def _unseen_row(site: str, entry: Mapping[str, Any], model: str) -> tuple[Cell, ...]:
    strong = model == entry["reported"]
    rule = str(entry["rule"]) if strong else "beside it, for comparison"
    means = [over_structures(entry["models"][model], name) for name in ("dice", "iou")]
    name = wording.model(model) + (" (reported)" if strong else "")
    scores = [Cell(wording.score(mean), mean, strong=strong) for mean in means]
    return Cell(site, site), *scores, Cell(name, model, strong=strong), Cell(rule, rule)


def results(summary: Mapping[str, Any]) -> Table:
    """One run: a row for each site, model and structure, every score with its 95 % interval.

    The model that is reported at a site is in bold, and the table marks it in words.
    """
    sites = [(site, entry) for site, entry in summary["sites"].items()]
    sites += [(f"{site} (unseen)", entry) for site, entry in (summary.get("unseen") or {}).items()]
    scores = [s for _, entry in sites for model in entry["models"].values() for s in (model or {}).values()]
    metrics = [name for name in METRICS if any(name in score for score in scores)]
    columns = [("site", "Site"), ("model", "Model"), ("structure", "Structure"), ("cases", "Cases")]
    columns += [(name, LABELS[name]) for name in metrics]
    rows = tuple(
        _result_row(site, entry, model, structure, metrics)
        for site, entry in sites
        for model, structures in entry["models"].items()
        for structure in structures or {}
    )
    notes = ("Mean [95 % interval, resampling patients]; the model that is reported at a site is in bold.",)
    part = wording.scored_part(summary)
    return Table(f"Scores of the {part} part by site (protocol: {summary['protocol']}).", tuple(columns), rows, notes)


def _result_row(
    site: str, entry: Mapping[str, Any], model: str, structure: str, metrics: Sequence[str]
) -> tuple[Cell, ...]:
    scores = entry["models"][model][structure]
    strong = model == entry["reported"]
    name = wording.model(model) + (" (reported)" if strong else "")
    return (
        Cell(site, site),
        Cell(name, model, strong=strong),
        Cell(structure, structure),
        Cell(str(scores["dice"]["cases"]), scores["dice"]["cases"]),
        *(_interval(metric, scores.get(metric), strong) for metric in metrics),
    )


def _interval(metric: str, score: Mapping[str, Any] | None, strong: bool) -> Cell:
    if score is None:
        return Cell(wording.NONE, None)
    text = wording.score_with_interval(score["mean"], score["low"], score["high"], wording.decimals_of(metric))
    return Cell(text, score["mean"], score["sd"], strong)
