"""`sammit watch`."""

from __future__ import annotations

import codecs
import io
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from time import sleep
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    Look = Callable[[], tuple[RenderableType, bool, str]]
    """What is to be seen now, whether nothing more will come, and then a command that should be copied whole."""


def watch(
    run: Path = typer.Argument(..., metavar="RUN", help="A run's folder, or a study's."),
    once: bool = typer.Option(False, "--once", help="Print one view and end; so too where the output is no terminal."),
    every: float = typer.Option(1.0, "--every", min=0.1, help="Seconds between two looks."),
) -> None:
    """Show how a run or a study goes, from its folder alone, until it ends; Ctrl-C ends the watching, never the run."""
    from rich.console import Console

    _readable_anywhere()
    console, look = Console(), _look(run)
    seen, over, command = look()
    if once or over or not sys.stdout.isatty():
        console.print(seen)
    else:
        with suppress(KeyboardInterrupt):
            command = _follow(console, look, every)
    if command:
        typer.echo(command)


def _readable_anywhere() -> None:
    """An output that has no blocks or no-break spaces, such as a log in ASCII, gets letters for them, not an error."""
    from sammit.watching.spark import BLOCKS, LETTERS

    known = {"\u00a0": " ", "–": "-", **dict(zip(BLOCKS, LETTERS, strict=True))}

    def replaced(error: UnicodeError) -> tuple[str, int]:
        assert isinstance(error, UnicodeEncodeError)
        return "".join(known.get(letter, "?") for letter in error.object[error.start : error.end]), error.end

    codecs.register_error("sammit.watch", replaced)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="sammit.watch")


def _look(path: Path) -> Look:
    """How to look at what lies in a folder."""
    from sammit.cli import watch_view
    from sammit.study.listing import is_study
    from sammit.watching.run import look_at_run
    from sammit.watching.study import look_at_study

    def at_run() -> tuple[RenderableType, bool, str]:
        seen = look_at_run(path)
        return watch_view.of_run(seen), seen.over, seen.resume if seen.stage == "stopped" else ""

    def at_study() -> tuple[RenderableType, bool, str]:
        seen = look_at_study(path)
        return watch_view.of_study(seen), seen.over, ""

    return at_study if is_study(path) else at_run


def _follow(console: Console, look: Look, every: float) -> str:
    """Show what is to be seen until nothing more will come; the last view stays on the terminal. Its command."""
    from rich.live import Live

    seen, over, command = look()
    with Live(seen, console=console, auto_refresh=False) as live:
        while not over:
            sleep(every)
            seen, over, command = look()
            live.update(seen, refresh=True)
    return command
