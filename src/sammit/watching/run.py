"""What the folder of a run tells of it at this moment.

Everything is read, nothing written: the run does not notice. Sammit replaces its files whole, but a folder that is
copied from another machine may hold half a line, so what cannot be read yet counts as not there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from time import time
from typing import Any, Literal

from sammit.config import Experiment
from sammit.errors import UserError
from sammit.lock import held
from sammit.reporting.folder import Round, rounds_so_far
from sammit.reporting.summary import Summary, read_summary
from sammit.runs import RunFolder, read_facts

Stage = Literal["starting", "training", "validating", "scoring", "finished", "stopped"]

RECENT = 5
"""Rounds whose mean says how long the next ones will take."""


@dataclass(frozen=True)
class SiteSoFar:
    """One site's part of the log.

    Attributes:
        name: its name.
        dice: model -> validation Dice, in the rounds that have it.
        loss: of training, in the rounds that the site took part in.
        up, down: bytes so far.
    """

    name: str
    dice: Mapping[str, Sequence[float]]
    loss: Sequence[float]
    up: float
    down: float


@dataclass(frozen=True)
class RunSoFar:
    """A run at one moment.

    Attributes:
        path: its folder.
        experiment: as `config.toml` has it.
        stage: what it does; "stopped" where no process works on it and it is not finished.
        done: whole rounds; `rounds` of them are to be.
        sites: those of the log, in its order.
        best: the best round so far, counted from 0, and its mean validation Dice; None where no round is chosen.
        seconds: a recent round's training took, mean; None before the first.
        quiet: seconds since a file of the run changed.
        failures: what sites did not answer, the newest last.
        summary: of a finished run.
        resume: the command with which a stopped run goes on.
    """

    path: Path
    experiment: Experiment
    stage: Stage
    done: int
    sites: Sequence[SiteSoFar]
    best: tuple[int, float] | None
    seconds: float | None
    quiet: float
    failures: Sequence[str]
    summary: Summary | None
    resume: str

    @property
    def rounds(self) -> int:
        """How many there are to be."""
        return self.experiment.training.rounds

    @property
    def over(self) -> bool:
        """Whether nothing more is to be seen."""
        return self.stage in ("finished", "stopped")

    @property
    def left(self) -> float | None:
        """Seconds of training that are left; None while that is not known, or nothing runs."""
        if self.seconds is None or self.over:
            return None
        return max(0.0, (self.rounds - self.done) * self.seconds - (self.quiet if self.stage == "training" else 0.0))


def look_at_run(path: Path) -> RunSoFar:
    """The run of a folder, now.

    Raises:
        UserError: no folder, no run in it, or one that was killed before it had written anything.
    """
    if path.is_file():
        raise UserError(f"{path}: is a file; give the folder of a run or a study")
    if not path.is_dir():
        raise UserError(f"{path}: there is no such folder yet; start the run, or give the --out of a `sammit run`")
    if not (path / "config.toml").is_file():
        if held(path):
            raise UserError(f"{path}: the run in it has only begun and has written nothing yet; look again in a moment")
        raise UserError(f"{path}: is no run and no study; give the --out of a `sammit run` or a `sammit study`")
    experiment = RunFolder.open(path).experiment
    rows = rounds_so_far(path / "rounds.jsonl")
    facts = _facts(path / "checkpoint" / "server.safetensors")
    finished = (path / "summary.json").is_file()
    times = [row.seconds for row in rows if row.seconds is not None][-RECENT:]
    return RunSoFar(
        path=path,
        experiment=experiment,
        stage="finished" if finished else _stage(facts, experiment) if held(path) else "stopped",
        done=len(rows),
        sites=_sites(rows),
        best=_best(facts, experiment),
        seconds=sum(times) / len(times) if times else None,
        quiet=_quiet(path),
        failures=[f"round {row.number + 1}: {site}: {why}" for row in rows for site, why in row.failed.items()],
        summary=read_summary(path / "summary.json") if finished else None,
        resume=_resume(path),
    )


def _facts(path: Path) -> dict[str, Any]:
    """What the server's checkpoint says of itself; nothing where it is missing, or only half here."""
    try:
        return read_facts(path)
    except UserError:
        return {}


def _stage(facts: Mapping[str, Any], experiment: Experiment) -> Stage:
    if not facts:
        return "starting"
    if not facts["judged"]:
        return "validating"
    return "training" if facts["round"] < experiment.training.rounds else "scoring"


def _best(facts: Mapping[str, Any], experiment: Experiment) -> tuple[int, float] | None:
    """As the server remembers it, so that what is shown is what will be reported."""
    index, dice = facts.get("best", (-1, -1.0))
    return (index, dice) if index >= 0 and experiment.evaluation.selection == "best" else None


def _sites(rows: Sequence[Round]) -> list[SiteSoFar]:
    names = dict.fromkeys(name for row in rows for name in (*row.down, *row.loss, *row.failed))
    return [_site(name, rows) for name in names]


def _site(name: str, rows: Sequence[Round]) -> SiteSoFar:
    models = {
        model: [row.validation[model][name] for row in rows if name in row.validation[model]]
        for model in ("personal", "global")
    }
    return SiteSoFar(
        name,
        {model: dice for model, dice in models.items() if dice},
        [row.loss[name] for row in rows if name in row.loss],
        sum(row.up.get(name, 0.0) for row in rows),
        sum(row.down.get(name, 0.0) for row in rows),
    )


def _quiet(path: Path) -> float:
    """Seconds since the run last left a sign of life."""
    files = [path / name for name in ("config.toml", "rounds.jsonl", "checkpoint/server.safetensors", "summary.json")]
    return max(0.0, time() - max(file.stat().st_mtime for file in files if file.is_file()))


def _resume(path: Path) -> str:
    """Across hospitals the lead submits again; on one machine the folder holds the whole recipe."""
    if (path / "run.json").is_file():
        return "sammit deploy submit RECIPE --resume"
    return f"sammit run {quote(str(path / 'config.toml'))} --out {quote(str(path))} --resume"
