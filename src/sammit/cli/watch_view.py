"""How a run or a study looks in a terminal while it goes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Group
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from sammit.reporting import wording
from sammit.watching.spark import spark

if TYPE_CHECKING:
    from rich.console import RenderableType

    from sammit.watching.run import RunSoFar, SiteSoFar
    from sammit.watching.study import CellSoFar, StudySoFar

WIDTH = 12
"""Letters of a small curve."""

SHOWN = 3
"""Failures that are shown, the newest."""

COLOURS = {"finished": "green", "stopped": "yellow"}


def of_run(seen: RunSoFar) -> RenderableType:
    """Head, progress, a row for each site, what was best, what went wrong, how it ended."""
    experiment = seen.experiment
    head = f"{experiment.name}: {experiment.method.name}, {experiment.model.name}, seed {experiment.seed}"
    parts: list[RenderableType] = [
        _line((head, "bold"), (f"  {seen.stage}", COLOURS.get(seen.stage, "cyan"))),
        _bar(f"round {seen.done} of {seen.rounds}", seen.done, seen.rounds),
        Text(_pace(seen)),
    ]
    if seen.sites:
        parts.append(_sites(seen))
    parts += [Text(line) for line in _facts(seen)]
    return Group(*parts)


def of_study(seen: StudySoFar) -> RenderableType:
    """Head, progress, a row for each running cell, failures, how to go on."""
    cells, done, failed = len(seen.cells), len(seen.of("done")), seen.of("failed")
    whole = done == cells
    state = "running" if seen.alive else "finished" if whole else "stopped"
    left = f", about {wording.duration(seen.left)} left" if seen.left is not None else ""
    counts = f"{len(seen.of('running'))} running, {len(seen.of('waiting'))} to come, {len(failed)} failed{left}"
    parts: list[RenderableType] = [
        _line((seen.listing.title, "bold"), (f"  {state}", COLOURS.get(state, "cyan"))),
        _bar(f"{done} of {wording.plural(cells, 'cell')} done", done, cells),
        Text(counts),
    ]
    if seen.of("running"):
        parts.append(_cells(seen.of("running")))
    parts += [Text(f"failed: {one.cell.name}: {one.reason}", "red") for one in failed[-SHOWN:]]
    if not seen.alive and not whole:
        parts.append(Text("stopped; the same `sammit study` again goes on"))
    elif whole and (seen.path / "report.html").is_file():
        parts.append(Text(f"report: {seen.path / 'report.html'}"))
    return Group(*parts)


def _line(*parts: tuple[str, str]) -> Text:
    """Text of several styles; names are never read as markup."""
    return Text.assemble(*parts)


def _bar(text: str, done: int, total: int) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_row(Text(text), ProgressBar(total=total, completed=done, width=30))
    return grid


def _pace(seen: RunSoFar) -> str:
    """What it does now, and how long that takes."""
    doing = {
        "starting": "looks at the data and begins with round 1",
        "training": f"trains round {seen.done + 1} since {wording.duration(seen.quiet)}",
        "validating": f"validates round {seen.done + 1} since {wording.duration(seen.quiet)}",
        "scoring": f"all rounds done; last local stage and scores since {wording.duration(seen.quiet)}",
    }
    parts = [doing[seen.stage]] if seen.stage in doing else []
    if seen.seconds is not None:
        parts.append(f"training takes {wording.duration(seen.seconds)} a round")
    if seen.left is not None and seen.stage != "scoring":
        parts.append(f"about {wording.duration(seen.left)} of it left")
    return "; ".join(parts)


def _sites(seen: RunSoFar) -> Table:
    """A row for each site: validation Dice of each model as it develops, loss, bytes."""
    models = [name for name in ("personal", "global") if any(name in site.dice for site in seen.sites)]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("site")
    for model in models:
        table.add_column(f"Dice, {model}" if len(models) > 1 else "validation Dice")
    for name in ("loss", "up", "down"):
        table.add_column(name, justify="left" if name == "loss" else "right")
    for site in seen.sites:
        curves = [_curve(site.dice.get(model, ())) for model in models]
        table.add_row(Text(site.name), *curves, _curve(site.loss), *_bytes(site))
    return table


def _bytes(site: SiteSoFar) -> tuple[Text, Text]:
    return Text(wording.size(site.up)), Text(wording.size(site.down))


def _curve(values: Sequence[float]) -> Text:
    """A small curve with its last value."""
    if not values:
        return Text(wording.NONE)
    return Text(f"{spark(values, WIDTH)} {wording.score(values[-1])}")


def _facts(seen: RunSoFar) -> list[str]:
    """Lines below the table."""
    up, down = sum(site.up for site in seen.sites), sum(site.down for site in seen.sites)
    lines = [f"sent so far: {wording.size(up)} up, {wording.size(down)} down"] if seen.sites else []
    if seen.best:
        index, dice = seen.best
        lines.append(f"best so far: round {index + 1}, mean validation Dice {wording.score(dice)}")
    lines += [f"failed: {failure}" for failure in seen.failures[-SHOWN:]]
    if seen.stage == "stopped":
        lines.append(f"stopped {wording.duration(seen.quiet)} ago; it goes on with")
    if seen.summary:
        lines += _scores(seen)
    return lines


def _scores(seen: RunSoFar) -> list[str]:
    """What a finished run came to, and where to read on."""
    summary = seen.summary or {}
    worst, mean = summary.get("worst_site"), (summary.get("mean") or {}).get("dice")
    part = wording.scored_part(summary)
    lines = [f"{part} Dice, mean over sites {wording.score(mean)}"]
    if worst:
        lines[0] += f"; worst site {worst['site']} {wording.score(worst['dice'])}"
    report = seen.path / "report.html"
    return [*lines, f"report: {report}"] if report.is_file() else lines


def _cells(running: Sequence[CellSoFar]) -> Table:
    """A row for each cell that runs."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("running", "round", "validation Dice", "training left"):
        table.add_column(name)
    for one in running:
        run = one.run
        if run is None:
            table.add_row(Text(one.cell.name), "starting", "", "")
            continue
        left = wording.duration(run.left) if run.left is not None else ""
        table.add_row(Text(one.cell.name), f"{run.done} of {run.rounds}, {run.stage}", _curve(_mean(run)), left)
    return table


def _mean(run: RunSoFar) -> list[float]:
    """Mean validation Dice over sites, personal where there are personal models, as far as all sites have it."""
    curves = [site.dice.get("personal") or site.dice.get("global") or () for site in run.sites]
    return [sum(values) / len(values) for values in zip(*curves, strict=False)]
