"""`sammit export`."""

from __future__ import annotations

from pathlib import Path

import typer


def export(
    run: Path = typer.Argument(..., help="A finished run's folder."),
    to: str = typer.Option(..., "--to", help="A format, such as onnx; sammit list exports names all."),
    out: Path = typer.Option(..., "--out", help="An empty or missing folder."),
    site: str = typer.Option("", "--site", help="This site's own model; the global one if left out."),
) -> None:
    """A run's model in a format that others read, with a model card; see docs/export.md."""
    from sammit.exporting.folder import export_run

    trained = export_run(run, to, out, site)
    for note in trained.notes:
        typer.echo(f"note: {note}")
    for path in sorted(file for file in out.rglob("*") if file.is_file()):
        typer.echo(str(path))
