"""`sammit data prepare`."""

from __future__ import annotations

from pathlib import Path

import click
import typer
from typer.core import TyperCommand


class WithDatasets(TyperCommand):
    """Lists the datasets and their options at the end of its help."""

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The usual help, and what can be prepared."""
        self.epilog = "\n\n".join(_datasets())
        super().format_help(ctx, formatter)


def prepare(
    name: str = typer.Argument(..., help="The dataset, see below."),
    raw: Path = typer.Argument(..., help="Folder of the raw copy, as unpacked."),
    out: Path = typer.Argument(..., help="Data root to make; missing or empty."),
    options: list[str] = typer.Option(
        [], "--option", metavar="KEY=VALUE", help="A choice of the dataset's, see below."
    ),
) -> None:
    """Make a data root from a published dataset's raw copy: check every file, then write, whole or not at all."""
    from sammit.data.prepare import prepare as make

    sites = make(name, raw, out, options, typer.echo)
    typer.echo(f"{len(sites)} sites in {out}; look at them with: sammit data check {out}")


def _datasets() -> list[str]:
    """Lines about each dataset: summary, what a raw copy has, options."""
    from sammit import plugins

    lines = []
    for row in plugins.describe("preparations"):
        module = plugins.load("preparations", row["name"])
        lines += [f"{row['name']}: {row['summary']}. A raw copy has {module.LAYOUT}."]
        lines += [f"    {key} ({option.default}): {option.meaning}" for key, option in module.OPTIONS.items()]
    return lines
