"""`sammit watch` and `sammit figures` as a user meets them."""

from __future__ import annotations

import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import tiny
from cli.conftest import Sammit

PROGRAM = [sys.executable, "-c", "from sammit.cli import main; main()"]


def test_a_finished_run(sammit: Sammit, runs: dict[str, Path]) -> None:
    said = sammit("watch", runs["fedavg"])
    assert said.code == 0, said
    assert "finished" in said.out and "round 2 of 2" in said.out and "test Dice, mean over sites" in said.out
    assert "aster" in said.out and "validation Dice" in said.out and "best so far: round" in said.out


def test_a_stopped_run(sammit: Sammit, runs: dict[str, Path], tmp_path: Path) -> None:
    """The command that goes on stands on one line, however narrow the output."""
    shutil.copyfile(runs["fedavg"] / "config.toml", tmp_path / "config.toml")
    said = sammit("watch", tmp_path)
    assert said.code == 0 and "round 0 of 2" in said.out
    assert said.out.splitlines()[-1] == f"sammit run {tmp_path}/config.toml --out {tmp_path} --resume"


def test_a_letter_that_the_output_lacks(sammit: Sammit, runs: dict[str, Path], tmp_path: Path) -> None:
    """A log in ASCII gets other letters, not an error."""
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "COLUMNS": "120"}
    done = subprocess.run([*PROGRAM, "watch", runs["fedavg"]], capture_output=True, env=environment, check=True)
    assert b"validation Dice" in done.stdout and done.stdout.isascii()


@pytest.mark.parametrize(("folder", "line"), [("later", "there is no such folder yet"), ("", "is no run and no study")])
def test_mistakes(mistake: Callable[..., str], tmp_path: Path, folder: str, line: str) -> None:
    assert line in mistake("watch", tmp_path / folder)


def test_figures(sammit: Sammit, runs: dict[str, Path], tmp_path: Path) -> None:
    said = sammit("figures", runs["fedavg"], "--out", tmp_path, "--format", "svg")
    names = {path.name for path in tmp_path.iterdir()}
    assert said.code == 0, said
    assert names == {"validation-dice.svg", "training-loss.svg", "dice-by-site.svg", "captions.md"}


def test_figures_that_cannot_be(mistake: Callable[..., str], runs: dict[str, Path], tmp_path: Path) -> None:
    assert "did you mean 'pdf'" in mistake("figures", runs["fedavg"], "--out", tmp_path, "--format", "pfd")
    assert "summary.json: there is no such file" in mistake("figures", tmp_path, "--out", tmp_path / "out")
    (tmp_path / "study.json").write_text("{}")
    assert "again writes it" in mistake("figures", tmp_path, "--out", tmp_path / "out")


def on_a_terminal(folder: Path, until: bytes, then: signal.Signals | None) -> tuple[int, bytes]:
    """Exit code and output of `sammit watch` on a terminal, which gets a signal once it has shown something."""
    master, slave = pty.openpty()
    process = subprocess.Popen([*PROGRAM, "watch", str(folder)], stdin=slave, stdout=slave, stderr=slave)
    os.close(slave)
    said, end = b"", time.monotonic() + 120
    while time.monotonic() < end:
        if select.select([master], [], [], 0.2)[0]:
            try:
                said += os.read(master, 65536)
            except OSError:
                break
        if then and until in said:
            process.send_signal(then)
            then = None
        if process.poll() is not None:
            break
    os.close(master)
    return process.wait(), said


@pytest.mark.slow
def test_a_running_run_is_shown_until_its_end(tmp_path: Path, sites: Path) -> None:
    """Beside it, without a change of any file: Ctrl-C ends the watching alone, and the end of the run does."""
    recipe = tiny.recipe(tmp_path / "r.toml", sites, training={"rounds": 12, "local_steps": 20})
    out = tmp_path / "run"
    run = subprocess.Popen([*PROGRAM, "run", str(recipe), "--out", str(out)], stdout=subprocess.DEVNULL)
    until = time.monotonic() + 120
    while not (out / "config.toml").is_file() and time.monotonic() < until:
        time.sleep(0.05)
    code, said = on_a_terminal(out, b"of 12", signal.SIGINT)
    assert code == 0 and b"of 12" in said and b"stopped" not in said and b"Traceback" not in said
    assert run.poll() is None
    code, said = on_a_terminal(out, b"", None)
    assert code == 0 and b"finished" in said and run.wait() == 0
    whole = tiny.run(tiny.experiment(sites, training={"rounds": 12, "local_steps": 20}), tmp_path / "alone")
    assert {**tiny.contents(out), "report.html": b""} == {**tiny.contents(whole), "report.html": b""}
