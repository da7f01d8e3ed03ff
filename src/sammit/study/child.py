"""A cell's process: started, watched from outside, ended."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic

from sammit.files import write_atomically
from sammit.study.cells import Cell
from sammit.study.work import Work
from sammit.toml import to_toml


@dataclass
class Child:
    """A cell that runs.

    Attributes:
        cell: which.
        folder, log: its run folder, and the file with what it says.
        process: leads a group of its own, so that Ctrl-C in a terminal reaches the study alone.
        need: bytes of memory it counts for.
        started: seconds of the monotonic clock.
    """

    cell: Cell
    folder: Path
    log: Path
    process: subprocess.Popen[bytes]
    need: int
    started: float

    @property
    def seconds(self) -> float:
        """Since its start."""
        return monotonic() - self.started

    def share_left(self) -> float:
        """The share of its rounds that is still to do; a little for the scoring that comes after them."""
        try:
            rows = (self.folder / "rounds.jsonl").read_bytes().count(b"\n")
        except OSError:
            rows = 0
        return max(0.05, 1 - rows / self.cell.experiment.training.rounds)

    def failure(self) -> str:
        """Why it ended without a result: the last line of its log, or the signal that ended it."""
        code = self.process.returncode
        if code < 0:
            hint = ", perhaps for want of memory: try fewer --jobs" if -code == signal.SIGKILL else ""
            return f"ended by {signal.Signals(-code).name}{hint} ({self.log})"
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        last = next((line for line in reversed(lines) if line.strip()), f"exit code {code}")
        return f"{last.removeprefix('error: ')} ({self.log})"

    def ended(self) -> bool:
        """Whether it has ended by itself."""
        if self.process.poll() is None:
            return False
        self._let_go()
        return True

    def end(self) -> None:
        """End it and whatever it started, now; a run goes on from any kill."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._let_go()

    def _let_go(self) -> None:
        if self.process.stdin:
            self.process.stdin.close()


def start(work: Work, cell: Cell, out: Path, threads: int, lock: int, need: int) -> Child:
    """Write the cell's recipe and start its process.

    Args:
        work: what it does.
        cell: which.
        out: the study's folder.
        threads: for a cell whose recipe leaves them open.
        lock: descriptor of the study's lock, which the process holds as well.
        need: bytes of memory it counts for.
    """
    training = cell.experiment.training
    threads = training.threads or threads
    recipe, log, folder = cell.beside(out, ".toml"), cell.beside(out, ".log"), cell.folder(out)
    write_atomically(recipe, to_toml(replace(cell.experiment, training=replace(training, threads=threads))))
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONUNBUFFERED": "1"}
    with log.open("wb") as said:
        process = subprocess.Popen(
            work.command(recipe, folder),
            stdin=subprocess.PIPE,
            stdout=said,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
            pass_fds=(lock,),
        )
    return Child(cell, folder, log, process, need, monotonic())
