"""Studies small enough for tests, and cells that need no training."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import tomli_w

from sammit.study.cells import Cell, expand
from sammit.study.datasets import find_datasets
from sammit.study.file import Study, read_study
from sammit.study.work import Work

TABLE: dict[str, Any] = {
    "name": "small",
    "unseen": "each",
    "common": {
        "data": {"view": "whole", "size": 16},
        "training": {"rounds": 1, "local_steps": 1, "batch_size": 2},
    },
    "methods": {
        "fed": {"label": "FedMSA", "model": {"adapter": ["bottleneck"]}},
        "cen": {"label": "MSA", "model": {"adapter": ["bottleneck"]}, "method": {"name": "centralised"}},
    },
}


def changed(**keys: Any) -> dict[str, Any]:
    """The small study's table with some keys of its top changed; None takes one out."""
    return {key: value for key, value in {**TABLE, **keys}.items() if value is not None}


def written(path: Path, **keys: Any) -> Path:
    """The small study as a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(tomli_w.dumps(changed(**keys)))
    return path


def loaded(folder: Path, *settings: str, **keys: Any) -> Study:
    """The small study, read from a file in a folder."""
    return read_study(written(folder / "study.toml", **keys), settings)


def cells_of(study: Study, root: Path, names: tuple[str, ...] = ("aster", "birch")) -> list[Cell]:
    """A study's cells on one dataset, whose sites are believed."""
    datasets, _ = find_datasets(study, root)
    return expand(study, datasets, {dataset.name: names for dataset in datasets})


FAKE = """
import json, os, sys, time
from pathlib import Path
from sammit.study.leash import tie
tie()
recipe, folder = Path(sys.argv[1]), Path(sys.argv[2])
out = folder.parents[3]
behaviour = json.loads((out.parent / "behaviour.json").read_text())
how = behaviour.get(folder.parent.name, behaviour.get(folder.name, "work"))
folder.mkdir(parents=True, exist_ok=True)

def note(what):
    with (out.parent / "notes.txt").open("a") as notes:
        print(what, folder.parent.name, folder.name, os.getpid(), os.environ["OMP_NUM_THREADS"], file=notes)

note("begin")
print("round 1")
if how == "fail":
    sys.exit("error: the disk is on fire\\n")
if how == "die":
    os.kill(os.getpid(), 9)
if how == "hang":
    time.sleep(600)
time.sleep(0.05)
(folder / "config.toml").write_bytes(recipe.read_bytes())
(folder / "summary.json").write_text(json.dumps({"seconds": {"total": 5.0}, "peak_rss_bytes": 1000}))
note("end")
"""

FAKE_WORK = Work("summary.json", lambda recipe, folder: [sys.executable, "-c", FAKE, str(recipe), str(folder)])


def behave(folder: Path, **behaviour: str) -> Path:
    """What fake cells do, by method or by cell: "work", "fail", "die" or "hang"; returns the study's folder."""
    (folder / "behaviour.json").write_text(json.dumps(behaviour))
    return folder / "out"


def notes(folder: Path) -> list[list[str]]:
    """What fake cells noted: begin or end, method, cell, process, threads."""
    path = folder / "notes.txt"
    return [line.split() for line in path.read_text().splitlines()] if path.is_file() else []


class Told:
    """A watch that remembers; `most` is the largest number of cells at once."""

    def __init__(self) -> None:
        self.most = 0
        self.begun: list[str] = []
        self.over: list[tuple[str, str]] = []
        self.left: list[float] = []
        self.seconds: list[float | None] = []

    def started(self, cell: Cell) -> None:
        self.begun.append(cell.name)
        self.most = max(self.most, len(self.begun) - len(self.over))

    def ended(self, cell: Cell, failure: str, seconds: float | None) -> None:
        self.over.append((cell.name, failure))
        self.seconds.append(seconds)

    def going(self, left: float, seconds: float | None) -> None:
        self.left.append(left)
