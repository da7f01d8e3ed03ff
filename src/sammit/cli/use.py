"""`sammit predict`, `sammit evaluate` and `sammit report`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import typer

from sammit.cli import tables
from sammit.config import Experiment
from sammit.errors import UserError
from sammit.recipe import load_experiment


def predict(
    run: Path = typer.Argument(..., help="A finished run's folder."),
    images: list[Path] = typer.Argument(..., help="Images, volumes, DICOM series, or folders of them."),
    out: Path = typer.Option(..., "--out", help="Folder for the masks."),
    site: str = typer.Option("", "--site", help="Use this site's own model; the global one if left out."),
    overlay: bool = typer.Option(False, "--overlay", help="Also write pictures with the masks drawn in."),
    form: str = typer.Option("auto", "--format", help="dicom-seg, nifti, nrrd or png; auto: by the image's own kind."),
    series: str = typer.Option(
        "", "--series", help="Of a folder of studies this DICOM series: its UID, or a part of its description."
    ),
    uneven: str = typer.Option(
        "", "--uneven", help="refuse or resample DICOM slices that lie unevenly; as the run's data if left out."
    ),
) -> None:
    """Masks for new images, in each image's own geometry and format."""
    from sammit import predict as use

    predictor = use.load_predictor(run, site, uneven)
    use.predict(predictor, images, out, overlay, lambda path: typer.echo(str(path)), form, series)


def evaluate(
    run: Path | None = typer.Argument(None, help="A finished run's folder; or --masks."),
    data: Path = typer.Option(..., "--data", help="Folder of sites, or one site, with masks."),
    site: str = typer.Option("", "--site", help="Use this site's own model; the global one if left out."),
    masks: Path | None = typer.Option(None, "--masks", help="Instead of a run: a folder of masks, of any tool."),
    recipe: Path | None = typer.Option(None, "--recipe", help="With --masks: read and score the data as it does."),
    as_json: bool = typer.Option(False, "--json", help="Print a JSON row for each case and structure."),
) -> None:
    """Score a run's model, or a folder of masks, on every case of other data, in native resolution."""
    from sammit import predict as use

    if masks is not None and run is None and not site:
        experiment = load_experiment(recipe) if recipe else Experiment()
        rows = use.evaluate_masks(masks, data, experiment, lambda line: typer.echo(line, err=True))
    elif run is not None and masks is None and recipe is None:
        rows = use.evaluate(run, data, site)
    else:
        raise UserError("evaluate: name a run (maybe with --site), or --masks FOLDER (maybe with --recipe)")
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    for key, dice in _means(rows).items():
        typer.echo(f"{key[0]} {key[1]}: mean Dice {sum(dice) / len(dice):.3f} over {len(dice)} cases")


def _means(rows: list[dict[str, Any]]) -> dict[tuple[str, str], list[float]]:
    grouped: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        grouped.setdefault((row["site"], row["structure"]), []).append(row["dice"])
    return grouped


def report(
    runs: list[Path] = typer.Argument(..., help="One run's folder, or several to compare."),
    out: Path | None = typer.Option(None, "--out", help="The HTML file; report.html in the first run if left out."),
) -> None:
    """Write a self-contained report of one run, or a comparison of several; print its table."""
    from sammit.reporting.folder import read_run
    from sammit.reporting.html import run_labels, write_report

    target = out or runs[0] / "report.html"
    write_report(runs, target)
    if len(runs) > 1:
        tables.say_comparison(list(zip(run_labels([read_run(path) for path in runs]), runs, strict=True)))
    else:
        tables.say_result(runs[0])
    typer.echo(f"report: {target}")
