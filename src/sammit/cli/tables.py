"""Tables of finished runs, as printed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import typer


def say_result(path: Path) -> None:
    """The table of one finished run."""
    from sammit.reporting.summary import read_summary
    from sammit.reporting.tables import results, to_markdown

    typer.echo(to_markdown(results(read_summary(path / "summary.json"))))


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
