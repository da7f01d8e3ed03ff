"""`sammit figures`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import typer

from sammit.errors import UserError

if TYPE_CHECKING:
    from sammit.reporting.svg import Picture


def figures(
    run: Path = typer.Argument(..., metavar="RUN", help="A finished run's folder, or a study's."),
    out: Path = typer.Option(..., "--out", help="Folder for the files; those of the same names are replaced."),
    formats: list[str] = typer.Option(["svg", "pdf"], "--format", help="svg, pdf or png; may be given several times."),
    width: Literal["auto", "column", "text"] = typer.Option(
        "auto", "--width", help="3.4 or 7 inches; auto: text where many methods are named."
    ),
) -> None:
    """The report's figures for a paper: curves, Dice by site and method, Dice against bytes, differences."""
    from sammit.reporting.paper import check_formats, write_pictures
    from sammit.study.listing import is_study

    check_formats(formats)
    pictures = _of_study(run, width) if is_study(run) else _of_run(run, width)
    if not pictures:
        raise UserError(f"{run}: has nothing to draw yet; let a first cell finish")
    for path in write_pictures(pictures, out, formats):
        typer.echo(str(path))


def _of_run(path: Path, width: str) -> dict[str, Picture]:
    from sammit.reporting.folder import read_run
    from sammit.reporting.paper import COLUMN, SHEETS, run_pictures

    return run_pictures(read_run(path), SHEETS.get(width, COLUMN))


def _of_study(path: Path, width: str) -> dict[str, Picture]:
    from sammit.reporting.paper import SHEETS, study_pictures
    from sammit.reporting.study import StudyCell, study_results
    from sammit.reporting.study_paper import NO_PAPER
    from sammit.study.listing import read_listing

    study = read_listing(path)
    if study.kind != "scores":
        raise UserError(f"{path}: is a study of kind '{study.kind}', which has no scores of test patients to draw")
    cells = [
        StudyCell(one.dataset, one.method, one.label, one.unseen, one.seed, one.folder(path)) for one in study.cells
    ]
    pairs = [(federated, centralised) for federated, centralised in study.pairs]
    results = study_results(cells, study.margin, pairs, NO_PAPER, study.reference)
    return study_pictures(results, SHEETS.get(width))
