"""A study's tables for a reader: scores by method and site, every model that was scored, what a method costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sammit.reporting import wording
from sammit.reporting.rendering import Cell, Table
from sammit.reporting.study_results import MEAN, Line, Result
from sammit.reporting.study_sentences import MISSING, PARTLY, UNDEFINED, score_notes


def scores_table(result: Result, metrics: Sequence[str]) -> Table:
    """One dataset: a row for each structure, metric and method, a column for each site and for the mean over them.

    Args:
        result: the block.
        metrics: which scores, in order.
    """
    block = result.block
    several = len(block.structures) > 1, len(metrics) > 1
    columns = [("method", "Method")]
    columns += [("structure", "Structure")] * several[0] + [("score", "Score")] * several[1]
    columns += [(site, site) for site in block.sites]
    columns += [("mean", "Mean over sites"), ("interval", "95 % interval"), ("worst", "Worst site")]
    rows = tuple(
        (
            Cell(line.label, line.label),
            *[Cell(structure, structure)] * several[0],
            *[Cell(result.score_name(metric), metric)] * several[1],
            *(_score(result, line, site, structure, metric) for site in block.sites),
            _score(result, line, MEAN, structure, metric),
            _interval(result, line, structure, metric),
            _worst(result, line, structure, metric),
        )
        for structure in block.structures
        for metric in metrics
        if metric in result.metrics_of(structure)
        for line in result.lines
    )
    names = wording.listed([result.score_name(metric) for metric in metrics])
    kind = "unseen site" if block.unseen else "site"
    caption = f"{block.title}: {names} by method and {kind} (protocol: {block.protocol or MISSING})."
    return Table(caption, tuple(columns), rows, tuple(score_notes(result, metrics, rows)))


def _score(result: Result, line: Line, place: str, structure: str, metric: str) -> Cell:
    """A mean over seeds; with its deviation for the mean over sites, and marked where a seed or a value is missing."""
    one = result.estimate(line, place, structure, metric)
    if one.mean is None:
        return Cell(MISSING if one.absent or not one.cases else UNDEFINED if one.undefined else wording.NONE, None)
    text = wording.score_with_sd(one.mean, one.sd if place == MEAN else None, wording.decimals_of(metric))
    printed = result.printed(line, place, structure, metric)
    paper = [f"({wording.score(printed)})"] if printed is not None else []
    undefined = [f"({one.undefined} {UNDEFINED})"] if one.undefined else []
    compared = (place, structure, metric) == (MEAN, result.block.headline, "dice")
    strong = compared and result.ranking.outright and line.method == result.ranking.best
    return Cell(" ".join([text + PARTLY * bool(one.missing), *paper, *undefined]), one.mean, one.sd, strong)


def _interval(result: Result, line: Line, structure: str, metric: str) -> Cell:
    one = result.estimate(line, MEAN, structure, metric)
    return Cell(wording.interval(one.low, one.high, wording.decimals_of(metric)), one.low)


def _worst(result: Result, line: Line, structure: str, metric: str) -> Cell:
    worst = result.worst(line, structure, metric)
    if worst is None:
        return Cell(wording.NONE, None)
    return Cell(f"{wording.score(worst[1], wording.decimals_of(metric))} ({worst[0]})", worst[1])


def beside_table(result: Result) -> Table | None:
    """Models that were scored and do not stand for their method, under the one that does; None without any."""
    if not result.beside:
        return None
    columns = [("method", "Method"), ("model", "Model"), *((site, site) for site in result.block.sites)]
    columns += [("mean", "Mean over sites")]
    chosen = {line.method for line in result.beside}
    lines = [line for line in [*result.lines, *result.beside] if line.method in chosen]
    order = list(result.block.labels)
    rows = tuple(
        (
            Cell(line.label, line.label),
            Cell(
                wording.model(line.models) + ("" if line.model else " (reported)"), line.models, strong=not line.model
            ),
            *(_plain_score(result, line, place) for place in result.places),
        )
        for line in sorted(lines, key=lambda line: (order.index(line.method), line.model))
    )
    note = "A method stands in every other table and figure with its reported model alone."
    return Table(f"{result.block.title}: Dice of every model that was scored.", tuple(columns), rows, (note,))


def _plain_score(result: Result, line: Line, place: str) -> Cell:
    one = result.headline(line, place)
    text = wording.score_with_sd(one.mean, one.sd if place == MEAN else None)
    return Cell(MISSING if one.mean is None else text + PARTLY * bool(one.missing), one.mean, one.sd)


def costs_table(result: Result) -> Table:
    """What each method trains, sends and takes: means over its finished cells."""
    columns = [("method", "Method"), ("cells", "Runs"), ("trainable", "Parameters trained"), ("shared", "Shared")]
    columns += [("up", "Up per site and round"), ("down", "Down"), ("seconds", "Time, all rounds")]
    columns += [("memory", "Peak memory")]
    rows = tuple(_costs(line, result.block.summaries(line.method)) for line in result.lines)
    return Table(f"{result.block.title}: costs, mean over runs.", tuple(columns), rows)


def _costs(line: Line, summaries: Sequence[Mapping[str, Any]]) -> tuple[Cell, ...]:
    def mean(table: str, key: str) -> float | None:
        known = [float(s[table][key]) for s in summaries if (s.get(table) or {}).get(key) is not None]
        return sum(known) / len(known) if known else None

    peaks = [float(s["peak_rss_bytes"]) for s in summaries if s.get("peak_rss_bytes")]
    counts = [mean("parameters", name) for name in ("trainable", "shared")]
    ways = [mean("traffic", f"{way}_bytes_per_site_round") for way in ("up", "down")]
    seconds, peak = mean("seconds", "total"), sum(peaks) / len(peaks) if peaks else None
    return (
        Cell(line.label, line.method),
        Cell(str(len(summaries)) if summaries else MISSING, len(summaries)),
        *(Cell(wording.count(number), number) for number in counts),
        *(Cell(wording.size(number), number) for number in ways),
        Cell(wording.duration(seconds), seconds),
        Cell(wording.size(peak), peak),
    )
