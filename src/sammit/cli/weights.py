"""`sammit weights list | fetch | check`."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

import typer

app = typer.Typer(help="Published weights: what there is, getting them, checking a file.", no_args_is_help=True)


@app.command("list")
def list_weights(as_json: bool = typer.Option(False, "--json", help="Print JSON.")) -> None:
    """Known weights, where they belong and whether they are there."""
    from sammit.models.weights import list_weights as rows

    found = [asdict(row) for row in rows()]
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    for row in found:
        typer.echo(f"{row['name']:<14} {row['megabytes']:>5} MB  {row['state']:<8} {row['path']}")


@app.command("fetch")
def fetch(name: str = typer.Argument(..., help="A name from `sammit weights list`.")) -> None:
    """Download published weights from their official address, check their hash, put them in place."""
    from sammit.models.weights import fetch as get

    def progress(done: int, total: int | None) -> None:
        if sys.stderr.isatty():
            whole = f" of {total / 1e6:.0f}" if total else ""
            typer.echo(f"\r{done / 1e6:.0f}{whole} MB", nl=False, err=True)

    typer.echo(str(get(name, progress=progress)))


@app.command("check")
def check(
    path: Path = typer.Argument(..., help="A .pth or .safetensors file."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Say what a file of weights is, which model it fits, and whether it is the published one."""
    from sammit.models.weights import check as look

    facts = asdict(look(path))
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
        return
    for name, value in facts.items():
        typer.echo(f"{name}: {', '.join(value) if isinstance(value, tuple) else value}")
