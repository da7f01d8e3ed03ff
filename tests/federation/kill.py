"""Run as a program: kill a run at every rename, go on with it, and compare what it leaves with an undisturbed run's.

    python kill.py JOB.json

JOB holds `table` (a recipe), `folder` (to work in), `moments` ("before" and "after" the rename) and `step` (kill at
every step-th rename). Prints a JSON list of the differences. It forks once for each run: torch is imported once, and no
process that has trained is ever forked.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import tiny
from sammit.config import Experiment
from sammit.recipe import experiment_from

rename = Path.replace


def forked(work: Callable[[], object]) -> int:
    """How a child that does `work` ends: an exit code, or minus the signal that killed it."""
    child = os.fork()
    if not child:
        try:
            work()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def undisturbed(experiment: Experiment, out: Path, modules: Path) -> None:
    """A run that nobody kills; what it imported is imported here too, so that later children need not."""

    def work() -> None:
        tiny.run(experiment, out)
        modules.write_text(json.dumps(list(sys.modules)))

    assert forked(work) == 0
    for name in json.loads(modules.read_text()):
        with suppress(ImportError):
            import_module(name)


def dying(number: int, moment: str) -> Callable[[Path, Any], Path]:
    """A rename that kills its process before or after the `number`-th call."""
    calls = 0

    def replace(path: Path, target: Any) -> Path:
        nonlocal calls
        calls += 1
        if calls == number and moment == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        moved = rename(path, target)
        if calls == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return moved

    return replace


def killed(experiment: Experiment, out: Path, number: int, moment: str) -> bool:
    """Whether a fresh run in `out` came as far as its `number`-th rename and died there."""

    def work() -> None:
        Path.replace = dying(number, moment)  # type: ignore[method-assign,assignment]
        tiny.run(experiment, out)

    code = forked(work)
    assert code in (0, -signal.SIGKILL), code
    return code != 0


def differences(experiment: Experiment, folder: Path, moments: list[str], step: int) -> list[str]:
    """A line for each file that a killed and resumed run leaves otherwise than an undisturbed one."""
    whole, out = folder / "whole", folder / "killed"
    undisturbed(experiment, whole, folder / "modules.json")
    wanted, found = tiny.contents(whole), []
    for moment in moments:
        number = 1
        while killed(experiment, out, number, moment):
            where = f"killed {moment} rename {number}"
            if forked(lambda: tiny.run(experiment, out, resume=True)):
                found.append(f"{where}: cannot be resumed")
            else:
                left = tiny.contents(out)
                found += [f"{where}: {name}" for name in sorted({*wanted, *left}) if wanted.get(name) != left.get(name)]
            shutil.rmtree(out)
            number += step
        assert number > 10, "the run ended before it was ever killed"
        shutil.rmtree(out)
    return found


if __name__ == "__main__":
    os.fsync = lambda handle: None  # a killed process needs no disk that is flushed
    job = json.loads(Path(sys.argv[1]).read_text())
    print(json.dumps(differences(experiment_from(job["table"]), Path(job["folder"]), job["moments"], job["step"])))
