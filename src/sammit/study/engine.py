"""Cells in parallel: each in a process of its own, as many at once as cores and memory allow."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from time import sleep
from typing import Protocol

from sammit.errors import UserError
from sammit.study.admission import Admission
from sammit.study.cells import Cell
from sammit.study.child import Child, start
from sammit.study.known import Known
from sammit.study.work import Work

PAUSE = 0.2
"""Seconds between two looks at the running cells."""


class Watch(Protocol):
    """What a person is told while cells run."""

    def started(self, cell: Cell) -> None:
        """A cell's process has started."""
        ...

    def ended(self, cell: Cell, failure: str, seconds: float | None) -> None:
        """A cell is done, or failed for a reason; the seconds that the rest will take, if that is known."""
        ...

    def going(self, left: float, seconds: float | None) -> None:
        """Cells that are left, parts of running ones counted, and the seconds they will take if that is known."""
        ...


class Engine:
    """Runs cells until each has ended.

    Attributes:
        failures: name of a cell that failed -> why.
    """

    def __init__(
        self, work: Work, out: Path, jobs: int, threads: int, lock: int, watch: Watch, admission: Admission
    ) -> None:
        """
        Args:
            work: what the process of a cell does.
            out: the study's folder.
            jobs: cells at once, at most.
            threads: of a cell.
            lock: descriptor of the study's lock.
            watch: is told what happens.
            admission: says when memory allows a further cell.
        """
        self.work, self.out, self.jobs, self.threads = work, out, jobs, threads
        self.lock, self.watch, self.admission = lock, watch, admission
        self.failures: dict[str, str] = {}
        self._known = Known()
        self._waiting: list[Cell] = []
        self._running: list[Child] = []

    def run(self, cells: Sequence[Cell]) -> dict[str, str]:
        """Do the cells that are not done; a failing one does not stop the others.

        Whatever ends this call ends the cells that run; they go on from there when they are run again.

        Returns:
            `failures`.
        """
        for cell in cells:
            if self.work.finished(cell, self.out):
                self._learn(cell, 0.0)
            else:
                self._waiting.append(cell)
        try:
            while self._waiting or self._running:
                self._reap()
                self._fill()
                self._tell()
                sleep(PAUSE)
        finally:
            for child in self._running:
                child.end()
        return self.failures

    def _reap(self) -> None:
        """Take leave of cells that have ended."""
        for child in [one for one in self._running if one.ended()]:
            self._running.remove(child)
            failure = "" if self.work.finished(child.cell, self.out) else child.failure()
            if failure:
                self.failures[child.cell.name] = failure
            else:
                self._learn(child.cell, child.seconds)
            self.watch.ended(child.cell, failure, self._known.seconds_left(self._left(), self.jobs))

    def _fill(self) -> None:
        """Start the first waiting cells that fit."""
        for cell in list(self._waiting):
            if len(self._running) >= self.jobs:
                return
            need = self.admission.need(self._known.peak(cell))
            if self.admission.admits(need, [(child.process.pid, child.need) for child in self._running]):
                self._waiting.remove(cell)
                self._running.append(start(self.work, cell, self.out, self.threads, self.lock, need))
                self.watch.started(cell)

    def _tell(self) -> None:
        left = self._left()
        self.watch.going(sum(share for _, share in left), self._known.seconds_left(left, self.jobs))

    def _left(self) -> list[tuple[Cell, float]]:
        """Cells that are not done, each with the share of it that is left."""
        running = [(child.cell, child.share_left()) for child in self._running]
        return running + [(cell, 1.0) for cell in self._waiting]

    def _learn(self, cell: Cell, seconds: float) -> None:
        """Remember what a finished cell took; a resumed one took longer than its last process."""
        path = cell.folder(self.out) / self.work.result
        try:
            result = json.loads(path.read_text(encoding="utf-8"))
            total, peak = result["seconds"].get("total", 0.0), result["peak_rss_bytes"]
        except (ValueError, KeyError, TypeError):
            raise UserError(f"{path}: is damaged; remove {path.parent} to do the cell again") from None
        self._known.add(cell, max(seconds, total), peak)
