"""`sammit study`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from sammit.errors import UserError

if TYPE_CHECKING:
    from sammit.study.cells import Cell
    from sammit.study.engine import Watch
    from sammit.study.plan import Plan

FAILED = 2


def study(
    file: Path = typer.Argument(..., metavar="STUDY", help="A study, such as studies/fedfms-table1.toml."),
    data: Path | None = typer.Option(None, "--data", help="Folder of the study's datasets, or of one dataset's sites."),
    out: Path | None = typer.Option(None, "--out", help="Folder for cells and tables; runs/NAME if left out."),
    settings: list[str] = typer.Option([], "--set", metavar="KEY=VALUE", help="Override, such as training.rounds=3."),
    methods: str | None = typer.Option(None, "--methods", metavar="A,B", help="Only these methods."),
    unseen: str | None = typer.Option(None, "--unseen", metavar="S,T", help="These sites unseen in turn; each; none."),
    seeds: str | None = typer.Option(None, "--seeds", metavar="0,1", help="These seeds."),
    search: bool = typer.Option(False, "--search", help="Choose settings on validation patients, as its table says."),
    jobs: int = typer.Option(0, "--jobs", min=0, help="Cells at once; 0: as many as cores and memory allow."),
    dry_run: bool = typer.Option(False, "--dry-run", help="Say which cells there are and which are done; start none."),
    track: str = typer.Option("", "--track", help="Also tell mlflow or tensorboard of each run; docs/watching.md."),
    track_to: str = typer.Option("", "--track-to", help="Where: MLflow's address, or TensorBoard's folder."),
) -> None:
    """Run methods x unseen sites x seeds, each cell an ordinary run, and write tables; again: go on."""
    from sammit.study.file import choose, read_study
    from sammit.study.plan import make_plan
    from sammit.study.search import as_search, take_up

    if search and seeds is not None:
        raise UserError("--seeds: a search has its own; set [search] seeds in the study")
    named = choose(read_study(file, settings), _names(methods), _names(unseen), _numbers(seeds))
    chosen = as_search(named) if search else take_up(named)
    plan = make_plan(chosen, data, out or Path("runs") / chosen.name)
    if plan.missing:
        typer.echo(f"not found, left out: {', '.join(plan.missing)}", err=True)
    if dry_run:
        _say_plan(plan)
        return
    from sammit.study.run import run_study

    if track:
        plan = _tracked(plan, track, track_to)
    with watching(len(plan.todo)) as watch:
        failures = run_study(plan, jobs, watch)
    _say_tables(plan)
    for name, reason in failures.items():
        typer.echo(f"failed: {name}: {reason}", err=True)
    if failures:
        raise typer.Exit(FAILED)


def _tracked(plan: Plan, name: str, address: str) -> Plan:
    """The plan with each run told of; what cannot work is said before any cell starts."""
    from sammit import plugins
    from sammit.study.work import tracked

    if plan.study.kind == "costs":
        raise UserError("--track: a study of costs trains nothing; leave it out")
    plugins.load("trackers", name).Tracker(address)
    to = ["--track-to", address] if address else []
    return replace(plan, work=tracked(plan.work, ["--track", name, *to]))


def _say_tables(plan: Plan) -> None:
    """What the study came to, and where it lies."""
    from sammit.study.search import FILE

    path = plan.out / (FILE if plan.study.kind == "search" else "table.md")
    if not path.is_file():
        typer.echo(f"{path}: not written, as candidates are missing; the same command again goes on", err=True)
        return
    typer.echo(path.read_text(encoding="utf-8"))
    typer.echo(f"{'chosen' if plan.study.kind == 'search' else 'tables'}: {plan.out}")


def _names(text: str | None) -> list[str] | None:
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


def _numbers(text: str | None) -> list[int] | None:
    try:
        return None if text is None else [int(name) for name in _names(text) or []]
    except ValueError:
        raise UserError(f"--seeds {text}: must be whole numbers with commas between, such as 0,1,2") from None


def _say_plan(plan: Plan) -> None:
    """The datasets, and how far each row of each has come."""
    from sammit.reporting.wording import plural

    done = len(plan.cells) - len(plan.todo)
    typer.echo(f"study {plan.study.name} ({plan.study.kind}): {plural(len(plan.cells), 'cell')}, {done} done")
    for dataset in plan.datasets:
        sites = ", ".join(plan.sites[dataset.name]) or "to be generated"
        typer.echo(f"dataset {dataset.name} ({dataset.root or 'no --data'}): sites {sites}")
    for row in dict.fromkeys(cell.row for cell in plan.cells):
        cells = [cell for cell in plan.cells if cell.row == row]
        unseen = ", ".join(dict.fromkeys(cell.unseen or "none" for cell in cells))
        seeds = ", ".join(dict.fromkeys(str(cell.seed) for cell in cells))
        done = sum(plan.work.finished(cell, plan.out) for cell in cells)
        typer.echo(f"{row[0]}/{row[1]}: unseen {unseen}; seeds {seeds}; {plural(len(cells), 'cell')}, {done} done")


@contextmanager
def watching(total: int) -> Iterator[Watch]:
    """What is shown of `total` cells: a bar on a terminal, a line for each start and end without one."""
    if not sys.stdout.isatty():
        yield Lines(total)
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    with Progress(BarColumn(), TimeElapsedColumn(), TextColumn("{task.description}")) as progress:
        task = progress.add_task("starting", total=total)
        yield Bar(total, lambda done, text: progress.update(task, completed=done, description=text))


class Lines:
    """A line for each cell that starts or ends."""

    def __init__(self, total: int) -> None:
        self.total, self.done = total, 0

    def started(self, cell: Cell) -> None:
        """As `Watch` has it."""
        typer.echo(f"{cell.name} started")

    def ended(self, cell: Cell, failure: str, seconds: float | None) -> None:
        """As `Watch` has it."""
        self.done += 1
        how = f"failed: {failure}" if failure else "done"
        typer.echo(f"{cell.name} {how} ({self.done}/{self.total}{_left(seconds)})")

    def going(self, left: float, seconds: float | None) -> None:
        """As `Watch` has it; says nothing, for it comes several times a second."""


class Bar:
    """A bar over all cells that also moves with the rounds of the running ones."""

    def __init__(self, total: int, show: Callable[[float, str], None]) -> None:
        """
        Args:
            total: cells.
            show: takes how much is done, in cells, and a text.
        """
        self.total, self.show = total, show
        self.begun = self.done = self.failed = 0

    def started(self, cell: Cell) -> None:
        """As `Watch` has it."""
        self.begun += 1

    def ended(self, cell: Cell, failure: str, seconds: float | None) -> None:
        """As `Watch` has it."""
        self.done += 1
        self.failed += bool(failure)

    def going(self, left: float, seconds: float | None) -> None:
        """As `Watch` has it."""
        failed = f", {self.failed} failed" if self.failed else ""
        running = f"{self.begun - self.done} running"
        self.show(self.total - left, f"{self.done}/{self.total} cells, {running}{failed}{_left(seconds)}")


def _left(seconds: float | None) -> str:
    from sammit.reporting.wording import duration

    return "" if seconds is None else f", about {duration(seconds)} left"
