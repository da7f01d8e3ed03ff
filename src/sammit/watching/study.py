"""What the folder of a study tells of it at this moment: its cells, and the runs among them that go on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from sammit.errors import UserError
from sammit.lock import held
from sammit.study.known import Known
from sammit.study.listing import FILE, Listed, Listing, read_listing
from sammit.watching.run import RunSoFar, look_at_run

State = Literal["done", "running", "failed", "waiting"]


@dataclass(frozen=True)
class CellSoFar:
    """A cell at one moment.

    Attributes:
        cell: which.
        state: "waiting" for its turn, or for the study to be started again.
        run: of a running cell, once it has written anything; None otherwise.
        reason: of a failed one: the last line that its process said.
    """

    cell: Listed
    state: State
    run: RunSoFar | None = None
    reason: str = ""


@dataclass(frozen=True)
class StudySoFar:
    """A study at one moment.

    Attributes:
        path: its folder.
        listing: what it is made of.
        alive: whether a process works on it.
        cells: all, in their order.
        left: seconds until all is done; None while no cell is done, or nothing runs.
    """

    path: Path
    listing: Listing
    alive: bool
    cells: Sequence[CellSoFar]
    left: float | None

    def of(self, state: State) -> list[CellSoFar]:
        """The cells of a state."""
        return [one for one in self.cells if one.state == state]

    @property
    def over(self) -> bool:
        """Whether nothing more is to be seen."""
        return not self.alive


def look_at_study(path: Path) -> StudySoFar:
    """The study of a folder, now; raises UserError where the folder does not say what cells it has."""
    listing, alive = read_listing(path), held(path)
    started = (path / FILE).stat().st_mtime  # written at each start of the study
    cells = [_cell(path, listing, cell, started if alive else None) for cell in listing.cells]
    return StudySoFar(path, listing, alive, cells, _left(path, listing, cells) if alive else None)


def _cell(out: Path, listing: Listing, cell: Listed, started: float | None) -> CellSoFar:
    """A cell's state; `started` is when the study that works on it began, None where none does."""
    if (cell.folder(out) / listing.result).is_file():
        return CellSoFar(cell, "done")
    log = cell.log(out)
    stale = started is not None and log.is_file() and log.stat().st_mtime < started
    if stale or not log.is_file():
        return CellSoFar(cell, "waiting")
    if reason := _failure(log):
        return CellSoFar(cell, "failed", reason=reason)
    if started is None:
        return CellSoFar(cell, "waiting")
    if listing.kind != "costs" and _died(cell.folder(out), log):
        return CellSoFar(cell, "failed", reason=f"its process ended without a word ({log})")
    return CellSoFar(cell, "running", _run(cell.folder(out)))


def _died(folder: Path, log: Path) -> bool:
    """Whether a run that had begun is held by nobody; one that still imports its libraries has said nothing yet."""
    return log.stat().st_size > 0 and (folder / "config.toml").is_file() and not held(folder)


def _failure(log: Path) -> str:
    """The mistake that a process ended with, "" where it said none."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    last = next((line for line in reversed(lines) if line.strip()), "")
    return last.removeprefix("error: ") if last.startswith("error: ") else ""


def _run(folder: Path) -> RunSoFar | None:
    try:
        return look_at_run(folder)
    except UserError:  # nothing there yet
        return None


def _left(out: Path, listing: Listing, cells: Sequence[CellSoFar]) -> float | None:
    """As the study itself estimates it, with as many cells at once as run now."""
    known = Known()
    for one in cells:
        if one.state == "done":
            path = one.cell.folder(out) / listing.result
            known.add(one.cell, _seconds(path, path.stat().st_mtime_ns), None)
    running = [one for one in cells if one.state == "running"]
    shares = [(one.cell, _share_left(one)) for one in running]
    waiting = [(one.cell, 1.0) for one in cells if one.state == "waiting"]
    return known.seconds_left([*shares, *waiting], max(1, len(running)))


@cache
def _seconds(path: Path, changed: int) -> float:
    """What a finished cell took; read again only where the file has changed."""
    try:
        return float(json.loads(path.read_text(encoding="utf-8"))["seconds"].get("total", 0.0))
    except (ValueError, KeyError, TypeError, AttributeError):
        return 0.0


def _share_left(one: CellSoFar) -> float:
    """The share of a cell's rounds that is still to do; a little for the scoring that comes after them."""
    return max(0.05, 1 - (one.run.done if one.run else 0) / one.cell.rounds)
