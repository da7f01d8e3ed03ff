"""`sammit data check`, `sammit data phantom` and, from its own file, `sammit data prepare`."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from sammit.cli.prepare import WithDatasets, prepare
from sammit.config import DataConfig
from sammit.errors import UserError
from sammit.recipe import load_experiment

if TYPE_CHECKING:
    from sammit.data.check import SiteReport

app = typer.Typer(help="Look at data, or make some.", no_args_is_help=True)
app.command("prepare", cls=WithDatasets)(prepare)


@app.command("check")
def check(
    root: Path = typer.Argument(..., help="Folder of sites, or one site."),
    recipe: Path | None = typer.Option(None, "--recipe", help="Read the data as this recipe does."),
    settings: list[str] = typer.Option([], "--set", metavar="KEY=VALUE", help="Override, as in `sammit run`."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Open every file of every site and say what is there, what is wrong, and what the grid can resolve."""
    from sammit.data.check import check as look
    from sammit.models.build import size_named
    from sammit.recipe import experiment_from, with_settings

    experiment = load_experiment(recipe, settings) if recipe else experiment_from(with_settings({}, settings))
    data: DataConfig = replace(experiment.data, root=str(root))
    stride = experiment.model.output_stride or size_named(experiment.model.name).stride
    reports = look(data, stride)
    if as_json:
        typer.echo(json.dumps([asdict(report) for report in reports], indent=2))
    else:
        for report in reports:
            _say(report)
    problems = sum(len(report.problems) for report in reports)
    if problems:
        raise UserError(f"{root}: {problems} problem{'s' if problems > 1 else ''} in the files named above; mend them")


@app.command("phantom")
def phantom(
    out: Path = typer.Argument(..., help="Folder to make the sites in."),
    seed: int = typer.Option(0, "--seed", help="Equal seeds give equal files."),
) -> None:
    """Make the demo's sites: four hospitals that differ in look, size, balance and reading."""
    from sammit.data.phantom import DEMO, write_demo_sites

    write_demo_sites(out, seed)
    typer.echo(f"{len(DEMO)} sites in {out}")


def _say(report: SiteReport) -> None:
    """One site in a few lines."""
    typer.echo(f"site {report.site} ({report.layout}): {report.cases} cases, {report.patients} patients")
    if report.smallest and report.largest:
        low, high = ("x".join(map(str, shape)) for shape in (report.smallest, report.largest))
        typer.echo(f"  size {low} to {high} (slices x rows x columns), channels {', '.join(map(str, report.channels))}")
    sizes = " to ".join("x".join(f"{mm:g}" for mm in s) for s in report.spacing or ())
    spacing = f"spacing {sizes} mm (slice x row x column)" if sizes else "spacing unknown"
    low_high = f"{report.intensity[0]:g} to {report.intensity[1]:g}" if report.intensity else "unknown"
    typer.echo(f"  {spacing}, intensity {low_high}")
    for structure in report.structures:
        ceiling = "none" if structure.ceiling is None else f"{structure.ceiling:.3f}"
        low_ceiling = structure.ceiling is not None and structure.ceiling < 0.9
        warning = "  WARNING: the grid is too coarse; lower data.scale or model.output_stride" if low_ceiling else ""
        typer.echo(
            f"  {structure.name}: in {structure.present} cases, empty in {structure.empty}, "
            f"Dice ceiling of the grid {ceiling}{warning}"
        )
    if report.labelled is not None:
        typer.echo(f"  labels {report.labels}: {report.labelled:.1%} of the pixels of a labelled image")
    if report.unmatched:
        typer.echo(f"  {len(report.unmatched)} names do not match data.patient: each is its own patient")
    for problem in report.problems:
        typer.echo(f"  PROBLEM {problem}")
