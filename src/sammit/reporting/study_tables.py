"""A study's tables for a reader: scores by method and site, every model that was scored, what a method costs."""

from __future__ import annotations

from collections.abc import Sequence

from sammit.reporting import wording
from sammit.reporting.rendering import Cell, Table
from sammit.reporting.study_costs import Costs, costs_of
from sammit.reporting.study_results import MEAN, Line, Result
from sammit.reporting.study_sentences import MISSING, PARTLY, UNDEFINED, score_notes

LONGEST = 40
"""Rows of scores up to which all structures and metrics share a table; nobody would read or print a longer one."""


def scores_tables(result: Result, metrics: Sequence[str]) -> list[Table]:
    """Some scores of a dataset: in one table, or the headline first and then one for each structure and metric."""
    block = result.block
    kinds = [(one, metric) for one in block.structures for metric in metrics if metric in result.metrics_of(one)]
    if len(kinds) * len(result.lines) <= LONGEST:
        return [scores_table(result, metrics)]
    kinds.sort(key=lambda kind: kind != (block.headline, "dice"))
    return [scores_table(result, [metric], [structure]) for structure, metric in kinds]


def scores_table(result: Result, metrics: Sequence[str], structures: Sequence[str] = ()) -> Table:
    """One dataset: a row for each structure, metric and method, a column for each site and for the mean over them.

    Args:
        result: the block.
        metrics: which scores, in order.
        structures: which; all of the block's where none is named.
    """
    block = result.block
    structures = structures or block.structures
    several = len(structures) > 1, len(metrics) > 1
    columns = [("method", "Method")]
    columns += [("structure", "Structure")] * several[0] + [("score", "Score")] * several[1]
    columns += [(site, site) for site in block.sites]
    columns += [("mean", "Mean over sites"), ("interval", "95 % interval"), ("worst", "Worst site")]
    columns += [("sd_sites", "Spread")]
    rows = tuple(
        (
            Cell(line.label, line.label),
            *[Cell(structure, structure)] * several[0],
            *[Cell(result.score_name(metric), metric)] * several[1],
            *(_score(result, line, site, structure, metric) for site in block.sites),
            _score(result, line, MEAN, structure, metric),
            _interval(result, line, structure, metric),
            *_apart(result, line, structure, metric),
        )
        for structure in structures
        for metric in metrics
        if metric in result.metrics_of(structure)
        for line in result.lines
    )
    names = wording.listed([result.score_name(metric) for metric in metrics])
    kind = "unseen site" if block.unseen else "site"
    of = f", {structures[0]}," if len(structures) < len(block.structures) else ""
    caption = f"{block.title}: {names}{of} by method and {kind} (protocol: {block.protocol or MISSING})."
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


def _apart(result: Result, line: Line, structure: str, metric: str) -> tuple[Cell, Cell]:
    """The worst site and the spread between sites."""
    apart, decimals = result.between(line, structure, metric), wording.decimals_of(metric)
    if apart is None:
        return Cell(wording.NONE, None), Cell(wording.NONE, None)
    worst = f"{wording.score(apart.worst, decimals)} ({apart.worst_site})"
    return Cell(worst, apart.worst), Cell(wording.score(apart.sd, decimals), apart.sd)


def beside_table(result: Result) -> Table | None:
    """Models that were scored and do not stand for their method, beside the one that does, on the same patients."""
    if not result.beside:
        return None
    columns = [("method", "Method"), ("model", "Model"), *((site, site) for site in result.block.sites)]
    columns += [("mean", "Mean over sites"), ("worst", "Worst site"), ("sd_sites", "Spread")]
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
            *_apart(result, line, result.block.headline, "dice"),
        )
        for line in sorted(lines, key=lambda line: (order.index(line.method), line.model))
    )
    notes = (
        "The models of a method on the same patients: the global model is the one that all sites share. In every other "
        "table and figure a method stands with its reported model alone.",
    )
    return Table(f"{result.block.title}: Dice of every model that was scored.", tuple(columns), rows, notes)


def _plain_score(result: Result, line: Line, place: str) -> Cell:
    one = result.headline(line, place)
    text = wording.score_with_sd(one.mean, one.sd if place == MEAN else None)
    return Cell(MISSING if one.mean is None else text + PARTLY * bool(one.missing), one.mean, one.sd)


def costs_table(result: Result) -> Table:
    """What each method trains, sends and takes: means over its finished cells."""
    columns = [("method", "Method"), ("cells", "Runs"), ("trainable", "Parameters trained"), ("shared", "Shared")]
    columns += [("up", "Up per site and round"), ("down", "Down"), ("total", "Whole run, all sites")]
    columns += [("steps", "Steps of a site"), ("seconds", "Time, all rounds"), ("memory", "Peak memory")]
    rows = tuple(_cost_row(line, costs_of(result.block.summaries(line.method))) for line in result.lines)
    note = "Steps are optimiser steps of the whole run, every stage and a last local stage counted, mean over sites."
    return Table(f"{result.block.title}: costs, mean over runs.", tuple(columns), rows, (note,))


def _cost_row(line: Line, costs: Costs) -> tuple[Cell, ...]:
    return (
        Cell(line.label, line.method),
        Cell(str(costs.cells) if costs.cells else MISSING, costs.cells),
        *(Cell(wording.count(number), number) for number in (costs.trainable, costs.shared)),
        *(Cell(wording.size(number), number) for number in (costs.up, costs.down, costs.total)),
        Cell(wording.NONE if costs.steps is None else f"{costs.steps:.0f}", costs.steps),
        Cell(wording.duration(costs.seconds), costs.seconds),
        Cell(wording.size(costs.memory), costs.memory),
    )
