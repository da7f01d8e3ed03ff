"""Tables of finished runs, as printed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import typer


def say_result(path: Path) -> None:
    """The tables of one finished run: every score, then its models over all sites."""
    from sammit.reporting.model_tables import by_model
    from sammit.reporting.summary import read_summary
    from sammit.reporting.tables import results, to_markdown

    summary = read_summary(path / "summary.json")
    for table in (results(summary), by_model(summary)):
        if table is not None:
            typer.echo(to_markdown(table))


def say_comparison(folders: Sequence[tuple[str, Path]]) -> None:
    """One row a method; runs of one label are seeds of it.

    Args:
        folders: (label, run folder) pairs.
    """
    from sammit.reporting.cases import read_cases
    from sammit.reporting.summary import read_summary
    from sammit.reporting.tables import compare, to_markdown

    summaries = [(label, read_summary(path / "summary.json")) for label, path in folders]
    typer.echo(to_markdown(compare(summaries, [read_cases(path / "cases.csv") for _, path in folders])))
