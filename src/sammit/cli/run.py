"""`sammit demo` and `sammit run`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from sammit.cli import progress
from sammit.config import load_experiment, to_toml

if TYPE_CHECKING:
    from sammit.config import Experiment
    from sammit.federation.local import Prepared


def demo(
    out: Path = typer.Option(Path("demo"), "--out", help="Folder for the sites, the runs and the report."),
    seeds: int = typer.Option(2, "--seeds", min=1, help="How many seeds to average over."),
) -> None:
    """The main job on generated sites, no download: train three methods, compare them, write a report."""
    from sammit import demo as demonstration

    total = seeds * len(demonstration.METHODS) * demonstration.COMMON["training"]["rounds"]
    with progress.rounds(total) as tell:
        folders = demonstration.demo(out, range(seeds), lambda name, row: tell(row, name))
    _compare(folders, out / "report.html")


def run(
    recipe: Path = typer.Argument(..., help="A recipe, such as recipes/pfedsam-nuclei.toml."),
    data: Path | None = typer.Option(None, "--data", help="Folder of sites; overrides data.root."),
    out: Path | None = typer.Option(None, "--out", help="Run folder; runs/NAME-seed-N if left out."),
    settings: list[str] = typer.Option([], "--set", metavar="KEY=VALUE", help="Override, such as training.rounds=3."),
    resume: bool = typer.Option(False, "--resume", help="Go on with the run in --out."),
    dry_run: bool = typer.Option(False, "--dry-run", help="Say what would run and what it would cost; start nothing."),
) -> None:
    """Train a recipe across the sites of a folder, score it, write a run folder with a report."""
    experiment = load_experiment(recipe, settings)
    if data is not None:
        experiment = replace(experiment, data=replace(experiment.data, root=str(data)))
    target = out or Path("runs") / f"{experiment.name}-seed-{experiment.seed}"
    if dry_run:
        _dry_run(experiment)
        return
    from sammit.federation import local
    from sammit.reporting.html import write_report

    with progress.rounds(experiment.training.rounds) as tell:
        folder = local.run(experiment, target, tell, resume)
    write_report([folder.path], folder.path / "report.html")
    _result(folder.path)


def _result(path: Path) -> None:
    """The table of one finished run."""
    from sammit.reporting.summary import read_summary
    from sammit.reporting.tables import results, to_markdown

    typer.echo(to_markdown(results(read_summary(path / "summary.json"))))
    typer.echo(f"report: {path / 'report.html'}")


def _compare(folders: list[tuple[str, Path]], report: Path) -> None:
    """The table of several runs, and their report."""
    from sammit.reporting.cases import read_cases
    from sammit.reporting.html import write_report
    from sammit.reporting.summary import read_summary
    from sammit.reporting.tables import compare, to_markdown

    write_report([path for _, path in folders], report)
    summaries = [(name, read_summary(path / "summary.json")) for name, path in folders]
    typer.echo(to_markdown(compare(summaries, [read_cases(path / "cases.csv") for _, path in folders])))
    typer.echo(f"report: {report}")


def _dry_run(experiment: Experiment) -> None:
    """What would run, on what, and what it would cost."""
    from sammit.federation import local
    from sammit.federation.estimate import estimate

    prepared = local.prepare(experiment)
    typer.echo(to_toml(prepared.experiment))
    _say_sites(prepared)
    for name, value in estimate(prepared).items():
        typer.echo(f"{name}: {value}")


def _say_sites(prepared: Prepared) -> None:
    for site in prepared.sites:
        parts = ", ".join(f"{len(site.cases(part))} {part}" for part in ("train", "val", "test"))
        typer.echo(f"site {site.name}: {parts}")
