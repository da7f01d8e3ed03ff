"""What is printed while something long runs: a bar on a terminal, a line a round without one."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Any, Protocol

import typer

from sammit.reporting.round_line import describe


class Tell(Protocol):
    """Takes a finished row of `rounds.jsonl`."""

    def __call__(self, row: dict[str, Any], label: str = "") -> None: ...


@contextmanager
def rounds(total: int) -> Iterator[Tell]:
    """A way to tell of finished rounds, `total` of them, with an estimate of the time left."""
    if sys.stdout.isatty():
        with _bar(total) as tell:
            yield tell
    else:
        yield _lines(total)


def _lines(total: int) -> Tell:
    started, done = perf_counter(), 0

    def tell(row: dict[str, Any], label: str = "") -> None:
        nonlocal done
        done += 1
        left = (perf_counter() - started) / done * (total - done)
        typer.echo(f"{describe(row, label)} ({done}/{total}, about {left:.0f} s left)")

    return tell


@contextmanager
def _bar(total: int) -> Iterator[Tell]:
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (BarColumn(), TextColumn("{task.completed}/{task.total}"), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, TextColumn("{task.description}")) as progress:
        task = progress.add_task("training", total=total)

        def tell(row: dict[str, Any], label: str = "") -> None:
            progress.update(task, advance=1, description=describe(row, label))

        yield tell
