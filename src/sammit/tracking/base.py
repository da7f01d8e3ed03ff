"""What a tracker does. A file of this folder with a class `Tracker` is one; its name is the file's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol


class Tracker(Protocol):
    """One run at a place that keeps runs.

    It is made before the run starts, in the main thread, and used in a thread of its own from then on; whatever it
    raises there ends the tracking, not the run.
    """

    address: str
    """Where the place is, without a password; what `begin` knew of another address is of no use here."""

    def __init__(self, address: str) -> None:
        """Raise UserError where what it needs is not installed, or no place is named; "" means the usual one."""
        ...

    def begin(self, name: str, recipe: Mapping[str, str], known: str) -> str:
        """Begin the run, or go on with one.

        Args:
            name: of the run, for readers.
            recipe: the whole recipe, dotted key -> value.
            known: what this gave when the run was first begun; "" before.

        Returns:
            What the place calls the run.
        """
        ...

    def steps(self, name: str) -> set[int]:
        """The steps at which the place has a number of this name."""
        ...

    def log(self, step: int, numbers: Mapping[str, float], seconds: float) -> None:
        """Numbers of a round, or of the end; `seconds` of training lie before it. The last is sent last."""
        ...

    def picture(self, name: str, path: Path) -> None:
        """A PNG to be looked at."""
        ...

    def file(self, path: Path, folder: str) -> None:
        """A file to be kept, in a folder ("" for none)."""
        ...

    def end(self, finished: bool) -> None:
        """The run ended, or stopped and may go on."""
        ...
