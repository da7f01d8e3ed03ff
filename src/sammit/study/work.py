"""What the process of a cell does: an ordinary run, or the measurements of a study of costs."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from sammit.study.cells import Cell
from sammit.study.file import Study
from sammit.study.schema import Measure

# The command line is a floor above, so it is named in a text; a cell is what a person could start by hand.
_TIED = "from sammit.study.leash import tie; tie(); "
_RUN = _TIED + "from sammit.cli import main; main()"
_MEASURE = _TIED + "from sammit.study.costs.row import main; main()"


@dataclass(frozen=True)
class Work:
    """How a cell is done.

    Attributes:
        result: the file in a cell's folder with which it is finished.
        command: from a cell, the recipe written for it and its folder to what is started.
    """

    result: str
    command: Callable[[Path, Path], list[str]]

    def finished(self, cell: Cell, out: Path) -> bool:
        """Whether the cell is done."""
        return (cell.folder(out) / self.result).is_file()


def work_of(study: Study) -> Work:
    """The work of a study's kind."""
    if study.kind == "costs":
        return costs_work(study.measure)
    return Work("summary.json", search_command if study.kind == "search" else run_command)


def tracked(work: Work, options: Sequence[str]) -> Work:
    """The same, each run told of elsewhere as `sammit run` with these options does."""
    return replace(work, command=lambda recipe, folder: [*work.command(recipe, folder), *options])


def run_command(recipe: Path, folder: Path) -> list[str]:
    """`sammit run`, going on with what is there."""
    resume = ["--resume"] if (folder / "config.toml").is_file() else []
    return [sys.executable, "-c", _RUN, "run", str(recipe), "--out", str(folder), *resume]


def search_command(recipe: Path, folder: Path) -> list[str]:
    """The same without a report, which chooses nothing."""
    return [*run_command(recipe, folder), "--no-report"]


def costs_work(measure: Measure) -> Work:
    """The measurements of a row of a study of costs."""
    program = [sys.executable, "-c", _MEASURE]
    settings = json.dumps(asdict(measure))
    return Work("cost.json", lambda recipe, folder: [*program, str(recipe), str(folder), settings])
