"""Cells in processes: in parallel, skipped when done, named when they fail, ended with the study, alone in a folder."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from sammit.config import Experiment
from sammit.errors import UserError
from sammit.lock import locked
from sammit.recipe import load_experiment
from sammit.study.admission import Admission
from sammit.study.cells import Cell
from sammit.study.engine import Engine
from sammit.study.known import Known
from study.small import FAKE_WORK, Told, behave, cells_of, loaded, notes

ALL = {"fed/aster-seed-0", "fed/birch-seed-0", "cen/aster-seed-0", "cen/birch-seed-0"}


SITES = ("aster", "birch")


def run(
    folder: Path, out: Path, jobs: int = 2, free: int = 10**12, sites: tuple[str, ...] = SITES, **keys: Any
) -> tuple[Told, dict[str, str]]:
    """The small study's cells as fake ones; `keys` change the study."""
    (folder / "eyes").mkdir(exist_ok=True)
    told, cells = Told(), cells_of(loaded(folder, **keys), folder / "eyes", sites)
    with locked(out) as lock:
        engine = Engine(FAKE_WORK, out, jobs, 3, lock, told, Admission(lambda: free, lambda pid: 0))
        return told, engine.run(cells)


def done(out: Path) -> set[str]:
    """Cells with a result."""
    return {str(path.parent.relative_to(out / "cells" / "eyes")) for path in out.rglob("summary.json")}


def test_all_cells_are_done_in_parallel_and_told(tmp_path: Path) -> None:
    """Two at once, with their threads; each told once; a finished one is not done again."""
    out = behave(tmp_path)
    told, failures = run(tmp_path, out)
    assert failures == {} and done(out) == ALL
    assert told.most == 2
    assert {threads for *_, threads in notes(tmp_path)} == {"3"}
    assert sorted(told.begun) == sorted(name for name, _ in told.over) == sorted(f"eyes/{name}" for name in ALL)
    assert told.left[-1] == 0 and told.seconds[-1] is None and all(told.seconds[:-1])
    before = len(notes(tmp_path))
    (out / "cells" / "eyes" / "fed" / "aster-seed-0" / "summary.json").unlink()
    told, _ = run(tmp_path, out)
    assert told.begun == ["eyes/fed/aster-seed-0"] and len(notes(tmp_path)) == before + 2


def test_one_at_a_time_in_order(tmp_path: Path) -> None:
    """Methods are neighbours."""
    out = behave(tmp_path)
    told, _ = run(tmp_path, out, 1)
    assert told.most == 1
    assert told.begun == [f"eyes/{name}/{site}-seed-0" for site in ("aster", "birch") for name in ("fed", "cen")]


@pytest.mark.parametrize(("free", "most"), [(2_500, 2), (10_000, 4)])
def test_memory_holds_cells_back(tmp_path: Path, free: int, most: int) -> None:
    """The peak of a finished cell of the row decides, 1,000 bytes here."""
    out = behave(tmp_path)
    for row in ("fed", "cen"):
        finished = out / "cells" / "eyes" / row / "aster-seed-0" / "summary.json"
        finished.parent.mkdir(parents=True)
        finished.write_text(json.dumps({"seconds": {"total": 5.0}, "peak_rss_bytes": 1000}))
    told, _ = run(tmp_path, out, 4, free, ("aster", "birch", "cedar"))
    assert len(told.over) == 4 and told.most == most


def test_two_cells_of_unknown_need_run_at_once(tmp_path: Path) -> None:
    """Rows of one cell each, of which nothing is ever known."""
    out = behave(tmp_path)
    told, _ = run(tmp_path, out, 4, methods={name: {} for name in "abcd"}, unseen="none")
    assert len(told.over) == 4 and told.most == 2


def test_a_failing_cell_does_not_stop_the_others(tmp_path: Path) -> None:
    """It is named with the last line that it said, or the signal; the next start tries it again."""
    out = behave(tmp_path, **{"cen": "fail", "birch-seed-0": "die"})
    told, failures = run(tmp_path, out)
    assert done(out) == {"fed/aster-seed-0"}
    assert set(failures) == {"eyes/fed/birch-seed-0", "eyes/cen/aster-seed-0", "eyes/cen/birch-seed-0"}
    log = out / "cells" / "eyes" / "cen" / "aster-seed-0.log"
    assert failures["eyes/cen/aster-seed-0"] == f"the disk is on fire ({log})"
    assert "ended by SIGKILL, perhaps for want of memory: try fewer --jobs (" in failures["eyes/fed/birch-seed-0"]
    assert dict(told.over)["eyes/cen/aster-seed-0"] == failures["eyes/cen/aster-seed-0"]
    behave(tmp_path)
    assert run(tmp_path, out)[1] == {} and done(out) == ALL


def test_a_damaged_result_is_named(tmp_path: Path) -> None:
    """With the mend; no cell is started."""
    out = behave(tmp_path)
    result = out / "cells" / "eyes" / "cen" / "birch-seed-0" / "summary.json"
    result.parent.mkdir(parents=True)
    for text in ("{", "[]", "{}"):
        result.write_text(text)
        with pytest.raises(UserError, match=r"summary\.json: is damaged; remove .*birch-seed-0 to do the cell again"):
            run(tmp_path, out)
    assert notes(tmp_path) == []


def test_a_recipe_may_choose_its_threads(tmp_path: Path) -> None:
    """Then the study leaves them alone."""
    out = behave(tmp_path)
    run(tmp_path, out, common={"training": {"threads": 1}})
    assert {threads for *_, threads in notes(tmp_path)} == {"1"}


def test_an_interrupted_study_ends_its_cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C, or any other error."""
    out = behave(tmp_path, fed="hang", cen="hang")

    def going(self: Told, left: float, seconds: float | None) -> None:
        if len(notes(tmp_path)) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(Told, "going", going)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, out)
    assert gone(int(pid) for *_, pid, _ in notes(tmp_path))
    with locked(out, patience=0):
        pass


def gone(pids: Iterable[int]) -> bool:
    """Whether processes end within a few seconds; one that has ended and is not yet waited for counts."""

    def alive(pid: int) -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        except OSError:
            return False

    left = list(pids)
    until = time.monotonic() + 10
    while any(map(alive, left)) and time.monotonic() < until:
        time.sleep(0.02)
    return not any(map(alive, left))


STUDY = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from study.test_engine import run
run(Path(sys.argv[1]), Path(sys.argv[1]) / "out")
"""


def started(folder: Path) -> subprocess.Popen[bytes]:
    """The small study of fake cells in a process of its own, once two cells have begun."""
    command = [sys.executable, "-c", STUDY, str(folder), str(Path(__file__).parents[1])]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 30
    while len(notes(folder)) < 2 and time.monotonic() < until:
        time.sleep(0.02)
    assert len(notes(folder)) == 2
    return process


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_study_takes_its_cells_with_it(tmp_path: Path, how: signal.Signals) -> None:
    """However it is killed; then the next start has the folder for itself and goes on."""
    out = behave(tmp_path, fed="hang", cen="hang")
    process = started(tmp_path)
    with pytest.raises(UserError, match="another study is running there; wait for it, or choose another --out"):
        impatient(out)
    os.kill(process.pid, how)
    process.wait()
    behave(tmp_path)
    assert run(tmp_path, out)[1] == {} and done(out) == ALL
    assert gone(int(pid) for *_, pid, _ in notes(tmp_path))


def impatient(out: Path) -> None:
    """A second study in the folder."""
    with locked(out, patience=0.1):
        raise AssertionError("two studies in one folder")


def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    """One line."""
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be a study's folder"), locked(tmp_path / "file"):
        pass


def cell(dataset: str, method: str) -> Cell:
    """A cell of which only the row matters."""
    return Cell(dataset, method, method, "", 0, Experiment())


def test_what_finished_cells_tell() -> None:
    """Of the same row, else of the method, else of all; the time left is shared by the jobs."""
    known = Known()
    assert known.seconds(cell("a", "x")) is None and known.peak(cell("a", "x")) is None
    assert known.seconds_left([(cell("a", "x"), 1.0)], 2) is None
    known.add(cell("a", "x"), 10.0, 100)
    known.add(cell("a", "x"), 30.0, 50)
    known.add(cell("b", "x"), 80.0, None)
    known.add(cell("b", "y"), 40.0, 7)
    assert [known.seconds(cell(*row)) for row in ("ax", "bx", "cx", "az")] == [20.0, 80.0, 40.0, 40.0]
    assert [known.peak(cell(*row)) for row in ("ax", "bx", "cx")] == [100, None, None]
    assert known.seconds_left([(cell("a", "x"), 0.5), (cell("b", "x"), 1.0)], 4) == 45.0
    assert known.seconds_left([(cell("a", "x"), 0.5)] * 8, 4) == 20.0
    assert known.seconds_left([], 4) is None


def test_a_cells_recipe_is_what_runs(tmp_path: Path) -> None:
    """Beside its folder, whole, with the threads in it; whoever wants can run it by hand."""
    out = behave(tmp_path)
    run(tmp_path, out, common={"training": {"rounds": 7}})
    experiment = load_experiment(out / "cells" / "eyes" / "cen" / "birch-seed-0.toml")
    assert (experiment.method.name, experiment.evaluation.unseen) == ("centralised", ("birch",))
    assert (experiment.training.rounds, experiment.training.threads) == (7, 3)
    assert json.loads((out / "cells" / "eyes" / "cen" / "birch-seed-0" / "summary.json").read_text())
