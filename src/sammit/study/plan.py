"""From a study to cells that are ready to start: everything checked, nothing written."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sammit.errors import UserError
from sammit.federation.inputs import going_on
from sammit.files import is_draft, write_atomically
from sammit.lock import LOCK
from sammit.reporting.study_paper import read_paper
from sammit.runs import RunFolder
from sammit.study.cells import Cell, expand
from sammit.study.check import Opened, check_cells
from sammit.study.datasets import GENERATED, Dataset, find_datasets
from sammit.study.file import Study
from sammit.study.machine import cores
from sammit.study.work import Work, work_of

FILE = "study.json"


@dataclass(frozen=True)
class Plan:
    """A study that is ready to start, or to go on.

    Attributes:
        study, out: what, and the folder for it.
        datasets: those that are there; `missing`: the names of those that are not.
        sites: dataset -> names of its sites.
        cells: all, in the order in which they are run.
        work: what a cell's process does.
    """

    study: Study
    out: Path
    datasets: tuple[Dataset, ...]
    missing: tuple[str, ...]
    sites: dict[str, list[str]]
    cells: tuple[Cell, ...]
    work: Work

    @property
    def todo(self) -> list[Cell]:
        """Cells that are not done."""
        return [cell for cell in self.cells if not self.work.finished(cell, self.out)]


def make_plan(study: Study, root: Path | None, out: Path) -> Plan:
    """Find the datasets and expand and check the cells.

    Args:
        study: from `take_up` or `as_search`.
        root: what `--data` says; None: what the study's `[common.data]` says. A study of costs can do without.
        out: the study's folder, as an earlier start left it, or empty, or missing.

    Raises:
        UserError: whatever in the study, the data or the folder a person must mend.
    """
    root = root or _named(study)
    datasets, missing = find_datasets(study, root) if root else ([GENERATED], [])
    opened = Opened()
    sites = {dataset.name: _sites(study, dataset, opened) for dataset in datasets}
    plan = Plan(
        study,
        out,
        tuple(datasets),
        tuple(missing),
        sites,
        tuple(expand(study, datasets, sites)),
        work_of(study),
    )
    _check_folder(study, out)
    for cell in plan.cells:
        if (cell.folder(out) / "config.toml").is_file():
            going_on(RunFolder.open(cell.folder(out)).experiment, cell.experiment, cell.folder(out))
    check_cells(plan.todo, opened)
    if study.paper:
        read_paper(study.paper)
    return plan


def _named(study: Study) -> Path | None:
    """The root that the study names itself."""
    named = study.example("", next(iter(study.methods))).data.root
    if not named and study.kind != "costs":
        raise UserError("data.root: no folder is named; set --data to a folder of sites, or of the study's datasets")
    return Path(named).expanduser() if named else None


def _sites(study: Study, dataset: Dataset, opened: Opened) -> list[str]:
    """The names of a dataset's sites; none where they are still to be generated."""
    if dataset.root is None:
        return []
    data = replace(study.example(dataset.name, next(iter(study.methods))).data, root=str(dataset.root))
    return [site.name for site in opened.sites(data)]


def _check_folder(study: Study, out: Path) -> None:
    """Raise UserError where the folder holds something else than an earlier start of this study."""
    over = next(place for place in (out.absolute(), *out.absolute().parents) if place.exists())
    if not over.is_dir():
        raise UserError(f"{over}: is a file; choose another --out")
    if (out / FILE).is_file():
        begun = read_start(out)
        for key, ours in (("name", study.name), ("kind", study.kind)):
            theirs = begun.get(key)
            if theirs != ours:
                raise UserError(f"{out}: holds a study with {key} = '{theirs}', not '{ours}'; choose another --out")
    elif out.is_dir() and not all(path.name == LOCK or is_draft(path) for path in out.iterdir()):
        raise UserError(f"{out}: is not empty and holds no study; choose another --out")


def read_start(out: Path) -> dict[str, object]:
    """What the first start of a study wrote down; raises UserError where that is damaged."""
    try:
        found = json.loads((out / FILE).read_text(encoding="utf-8"))
        if isinstance(found, dict) and isinstance(found.get("threads"), int):
            return found
    except ValueError:
        pass
    raise UserError(f"{out / FILE}: is damaged; restore it, or choose another --out")


def settle(plan: Plan, jobs: int) -> tuple[int, int]:
    """Cells at once, and threads of each: these are chosen at the first start and kept, for they decide last digits.

    Args:
        plan: what is to be done.
        jobs: what `--jobs` says; 0: one for each core, or one alone where cells share a GPU.
    """
    if (plan.out / FILE).is_file():
        threads = int(str(read_start(plan.out)["threads"]))
        return jobs or _automatic(plan.todo, cores() // threads), threads
    jobs = jobs or _automatic(plan.todo, cores())
    threads = max(1, cores() // jobs)
    start = {"name": plan.study.name, "kind": plan.study.kind, "threads": threads, "cores": cores()}
    write_atomically(plan.out / FILE, json.dumps(start, indent=2) + "\n")
    return jobs, threads


def _automatic(todo: Sequence[Cell], room: int) -> int:
    shared = any(cell.experiment.training.device != "cpu" for cell in todo)
    return 1 if shared else max(1, min(room, len(todo)))
