"""A real study, killed and started again, ends as runs that nobody disturbed; its tables are there."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import tiny
from sammit.study.cells import Cell
from sammit.study.plan import Plan, make_plan, settle
from sammit.study.run import run_study, write_tables
from study.small import TABLE, Told, loaded, written

KILLED = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from sammit.study.admission import Admission
from sammit.study.engine import Engine
from sammit.study.file import read_study
from sammit.lock import locked
from sammit.study.work import work_of
from study.small import Told, cells_of
study, out = read_study(Path(sys.argv[2])), Path(sys.argv[4])
with locked(out) as lock:
    Engine(work_of(study), out, 2, 1, lock, Told(), Admission()).run(cells_of(study, Path(sys.argv[3])))
"""


def killed_once(study: Path, root: Path, out: Path, at: str) -> None:
    """Start a study's cells and kill who started them as soon as a file of a name is there."""
    here = Path(__file__).parents[1]
    process = subprocess.Popen([sys.executable, "-c", KILLED, *map(str, (here, study, root, out))])
    until = time.monotonic() + 120
    while not any(out.rglob(at)) and time.monotonic() < until and process.poll() is None:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


def undisturbed(cell: Cell, folder: Path) -> dict[str, Any]:
    """What the cell's run leaves in this process."""
    training = replace(cell.experiment.training, threads=1)
    return tiny.contents(tiny.run(replace(cell.experiment, training=training), folder))


def differences(plan: Plan, folder: Path) -> list[str]:
    """Files of the study's cells that are not an undisturbed run's."""
    found = []
    for cell in plan.cells:
        left, wanted = tiny.contents(cell.folder(plan.out)), undisturbed(cell, folder / cell.name)
        left.pop("report.html", None)  # a cell is done with its scores; a kill may come before its report
        for files in (left, wanted):
            environment = json.loads(files["environment.json"])
            del environment["revision"]  # somebody may have committed between the two
            files["environment.json"] = environment
        found += [f"{cell.name}: {name}" for name in {*left, *wanted} if left.get(name) != wanted.get(name)]
    return found


def goes_on(folder: Path, root: Path, at: str, **keys: Any) -> Plan:
    """A study, killed, started again in this process, compared."""
    common = {**TABLE["common"], "training": {**TABLE["common"]["training"], "threads": 1, "rounds": 2}}
    study = loaded(folder, common=common, **keys)
    settle(make_plan(study, root, folder / "out"), 2)
    killed_once(study.path, root, folder / "out", at)
    plan = make_plan(study, root, folder / "out")
    assert plan.todo
    told = Told()
    assert run_study(plan, 2, told) == {}
    assert len(told.begun) == len(told.over) <= len(plan.cells)
    assert not make_plan(study, root, folder / "out").todo
    assert differences(plan, folder) == []
    return plan


def test_a_killed_study_goes_on(tmp_path: Path, sites: Path) -> None:
    """Killed in the first round of a cell; weights, scores and log are the undisturbed run's, bit for bit."""
    plan = goes_on(tmp_path, sites, "config.toml", unseen=["birch"], methods={"fed": {"label": "FedMSA"}})
    rows = list(csv.DictReader((plan.out / "table.csv").read_text().splitlines()))
    assert {(row["label"], row["missing"]) for row in rows if row["site"] == "birch"} == {("FedMSA", "")}
    for name in ("table.md", "table.tex", "report.html"):
        assert "FedMSA" in (plan.out / name).read_text()


def test_the_tables_are_told_what_to_compare(tmp_path: Path, sites: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Margin, pairs and reference of the file reach the report."""
    from sammit.reporting import study as reporting

    told: list[tuple[Any, ...]] = []
    monkeypatch.setattr(reporting, "write_study", lambda *given: told.append(given))
    compare = {"margin": 0.05, "pairs": [["fed", "cen"]], "reference": "cen"}
    write_tables(make_plan(loaded(tmp_path, compare=compare, title="Two"), sites, tmp_path / "out"))
    ((cells, out, *rest),) = told
    assert len(cells) == 4 and out == tmp_path / "out"
    assert rest == ["Two", 0.05, [("fed", "cen")], None, "cen"]


@pytest.mark.slow
@pytest.mark.parametrize("at", ["rounds.jsonl", "summary.json"])
def test_a_killed_study_of_two_methods_goes_on(tmp_path: Path, sites: Path, at: str) -> None:
    """Killed when a cell has judged its first round, and when one has finished; tables as of an undisturbed study."""
    plan = goes_on(tmp_path / "killed", sites, at)
    whole = make_plan(loaded(tmp_path / "whole", common=plan.study.common), sites, tmp_path / "whole" / "out")
    assert run_study(whole, 2, Told()) == {}
    for name in ("table.csv", "differences.csv"):
        assert (plan.out / name).read_bytes() == (whole.out / name).read_bytes()


@pytest.mark.slow
def test_a_study_from_the_command_line(tmp_path: Path, sites: Path) -> None:
    """In a process of its own, without a terminal: a line a cell, the table, where it lies."""
    study = written(tmp_path / "study.toml")
    command = [sys.executable, "-c", "from sammit.cli import main; main()", "study", str(study), "--data", str(sites)]
    done = subprocess.run([*command, "--out", str(tmp_path / "out")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(" started\n") == 4 and "(4/4)" in done.stdout and "FedMSA" in done.stdout
    again = subprocess.run([*command, "--out", str(tmp_path / "out")], capture_output=True, text=True)
    assert again.returncode == 0 and " started\n" not in again.stdout and "FedMSA" in again.stdout
