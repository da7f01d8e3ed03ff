"""`sammit demo` and `sammit run`."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from sammit.cli import progress, tables
from sammit.cli.join import join
from sammit.errors import UserError
from sammit.policy import POLICY_FILE
from sammit.recipe import load_experiment
from sammit.toml import to_toml

if TYPE_CHECKING:
    from sammit.config import Experiment
    from sammit.federation.prepare import Prepared


def demo(
    out: Path = typer.Option(Path("demo"), "--out", help="Folder for the sites, the runs and the report."),
    seeds: int = typer.Option(2, "--seeds", min=1, help="How many seeds to average over."),
) -> None:
    """The main job on generated sites, no download: train three methods, compare them, write a report."""
    from sammit import demo as demonstration
    from sammit.reporting.html import write_report

    total = seeds * len(demonstration.METHODS) * demonstration.COMMON["training"]["rounds"]
    with progress.rounds(total) as tell:
        folders = demonstration.demo(out, range(seeds), lambda name, row: tell(row, name))
    write_report([path for _, path in folders], out / "report.html", [name for name, _ in folders])
    tables.say_comparison(folders)
    typer.echo(f"report: {out / 'report.html'}")


def run(
    recipe: Path | None = typer.Argument(None, help="A recipe, such as recipes/pfedsam-nuclei.toml."),
    data: Path | None = typer.Option(None, "--data", help="Folder of sites; overrides data.root."),
    out: Path | None = typer.Option(None, "--out", help="Run folder; runs/NAME-seed-N if left out."),
    settings: list[str] = typer.Option([], "--set", metavar="KEY=VALUE", help="Override, such as training.rounds=3."),
    resume: bool = typer.Option(False, "--resume", help="Go on with the run in --out."),
    dry_run: bool = typer.Option(False, "--dry-run", help="Say what would run and what it would cost; start nothing."),
    no_report: bool = typer.Option(False, "--no-report", help="Write no report.html; `sammit report` does it later."),
    joins: Path | None = typer.Option(None, "--from", metavar="RUN", help="A finished run that a new --site joins."),
    site: str = typer.Option("", "--site", help="With --from: the new site, which took no part in the run."),
    cases: str | None = typer.Option(None, "--cases", metavar="1,5,all", help="With --from: labelled cases to try."),
    start: str = typer.Option("untrained", "--start", help="With --from: or mean, of the source sites' own parts."),
    track: str = typer.Option("", "--track", help="Also tell mlflow or tensorboard of the run; see docs/watching.md."),
    track_to: str = typer.Option("", "--track-to", help="Where: MLflow's address, or TensorBoard's folder."),
    track_pictures: bool = typer.Option(
        False, "--track-pictures", help="Images of patients too: the report's cases with the masks drawn in."
    ),
) -> None:
    """Train a recipe across the sites of a folder, score it, write a run folder with a report.

    With --from RUN --site NEW a new site joins a finished run: its own part is trained, the shared part stays.
    """
    if joins is not None:
        _check_joining(recipe, site, resume or dry_run or no_report or bool(track))
        join(joins, site, data, out, settings, cases, start)
        return
    if recipe is None or site or cases is not None:
        lacking = (
            "RECIPE: is missing; name one"
            if recipe is None
            else "--site and --cases go with --from RUN; leave them out"
        )
        raise UserError(f"{lacking}, or a run for a new site to join: --from RUN --site NEW")
    experiment = load_experiment(recipe, settings)
    if data is not None:
        experiment = experiment.of_sites_in(data)
    if dry_run:
        _dry_run(experiment)
        return
    if not track and (track_to or track_pictures):
        raise UserError("--track-to, --track-pictures: say with --track who is to be told, mlflow or tensorboard")
    from sammit.federation import local
    from sammit.reporting.html import write_report
    from sammit.runs import default_folder
    from sammit.tracking.follow import followed

    target = out or default_folder(experiment)
    with (
        followed(track, track_to, target, track_pictures) as follow,
        progress.rounds(experiment.training.rounds) as tell,
    ):

        def told(row: dict[str, Any]) -> None:
            tell(row)
            follow(row)

        folder = local.run(experiment, target, told, resume)
    tables.say_result(folder.path)
    if not no_report:
        write_report([folder.path], folder.path / "report.html")
        typer.echo(f"report: {folder.path / 'report.html'}")


def _check_joining(recipe: Path | None, site: str, other: bool) -> None:
    """Raise UserError where a join is asked for together with what it has no use for."""
    if recipe is not None:
        raise UserError(
            f"{recipe}: a new site joins with the recipe of the run; leave it out, --set changes keys of it"
        )
    if not site:
        raise UserError("--from: needs --site NEW, a site that took no part in the run")
    if other:
        raise UserError("--from: a join has no --resume, --dry-run, --no-report or --track; leave them out")


def _dry_run(experiment: Experiment) -> None:
    """What would run, on what, and what it would cost."""
    from sammit.federation.estimate import estimate
    from sammit.federation.prepare import prepare

    prepared = prepare(experiment)
    typer.echo(to_toml(prepared.experiment))
    _say_sites(prepared)
    _say_asked(prepared)
    for name, value in estimate(prepared).items():
        typer.echo(f"{name}: {value}")


def _say_asked(prepared: Prepared) -> None:
    """Everything that the method sends beside the shared tensors."""
    from sammit.federation.consent import asked

    for site, survey in prepared.surveys.items():
        numbers = sum(tensor.numel() for tensor in survey.values())
        typer.echo(f"site {site} tells {numbers} numbers of its data before the model is built: {', '.join(survey)}")
    typer.echo(f"beside the shared tensors travel (a site may refuse any by name, in the {POLICY_FILE} of its folder):")
    for when, things in groupby(asked(prepared), lambda thing: thing.when):
        typer.echo(f"  {when}")
        for thing in things:
            typer.echo(f"    {thing.name} ({thing.form}): {thing.purpose}")


def _say_sites(prepared: Prepared) -> None:
    for site in prepared.sites:
        parts = ", ".join(f"{len(site.cases(part))} {part}" for part in ("train", "val", "test"))
        typer.echo(f"site {site.name}: {parts}")
