"""`sammit list` and `sammit recipes`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import typer


def list_plugins(
    kind: Literal[
        "methods", "aggregators", "models", "datasets", "preparations", "adapters", "exports", "trackers"
    ] = typer.Argument(..., help="What to list."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Methods, rules for low-rank factors, models, data layouts, datasets, adapters, exports or trackers, by name."""
    rows = _rows(kind)
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    for row in rows:
        typer.echo(f"{row['name']:<14} {row['summary']}")
        for key in ("travels", "stays", "exact", "needs", "paper", "source", "licence"):
            if key in row:
                typer.echo(f"{'':<14}   {key}: {row[key]}")


def _rows(kind: str) -> list[dict[str, Any]]:
    if kind == "models":
        from sammit.models.build import MODELS

        return [{"name": name, "summary": size.summary} for name, size in MODELS.items()]
    from sammit.plugins import describe

    return describe(kind)


def recipes(out: Path = typer.Argument(..., help="Folder for recipes/ and studies/, such as `.`.")) -> None:
    """Write the recipes and studies that come with Sammit into a folder, to run and to change."""
    from sammit.shipped import write_shipped

    for path in write_shipped(out):
        typer.echo(str(path))
