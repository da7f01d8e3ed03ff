"""`sammit study` as a person meets it; cells that would take time are made up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import tiny
from sammit.cli.study import Bar, Lines
from sammit.study import engine, plan
from sammit.study.plan import make_plan
from study.small import FAKE_WORK, TABLE, behave, loaded, written

Call = Callable[..., Any]


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study of two methods on a copy of nothing; its cells are made up, and looked at closely."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plan, "work_of", lambda study: FAKE_WORK)
    monkeypatch.setattr(engine, "PAUSE", 0.01)
    return written(tmp_path / "study.toml", unseen="none")


def test_a_dry_run_says_what_there_is(file: Path, sites: Path, sammit: Call) -> None:
    """Datasets, sites, cells, what is done; starts and writes nothing."""
    said = sammit("study", file, "--data", sites, "--unseen", "each", "--seeds", "3,4", "--dry-run")
    assert said.code == 0 and said.err == ""
    name = sites.name
    assert said.out.splitlines() == [
        "study small (scores): 8 cells, 0 done",
        f"dataset {name} ({sites}): sites aster, birch",
        f"{name}/fed: unseen aster, birch; seeds 3, 4; 4 cells, 0 done",
        f"{name}/cen: unseen aster, birch; seeds 3, 4; 4 cells, 0 done",
    ]
    assert list(file.parent.iterdir()) == [file]


def test_a_study_with_a_failing_cell(file: Path, sites: Path, sammit: Call) -> None:
    """The others are done, the tables show it as missing, it is named with its reason, and the exit code is 2."""
    out = behave(file.parent, cen="fail")
    cell = make_plan(loaded(file.parent, unseen="none"), sites, out).cells[0]
    training = replace(cell.experiment.training, threads=1)
    tiny.run(replace(cell.experiment, training=training), cell.folder(out))
    (out / "study.json").write_text('{"name": "small", "kind": "scores", "threads": 1}')
    said = sammit("study", file, "--data", sites, "--out", out)
    assert said.code == 2, said
    (line,) = said.err.splitlines()
    assert line.startswith(f"failed: {sites.name}/cen/all-seed-0: the disk is on fire (")
    assert f"{sites.name}/cen/all-seed-0 started" in said.out and "fed/all-seed-0 started" not in said.out
    assert f"tables: {out}" in said.out
    table = (out / "table.md").read_text()
    assert table in said.out and "FedMSA" in table and "missing" in table
    assert (out / "report.html").is_file() and (out / "table.tex").is_file()
    said = sammit("study", file, "--data", sites, "--out", out, "--set", "training.lr=0.5")
    assert said.code == 2 and "was started with training.lr = 0.001, not 0.5; go on with that, or choose" in said.err


def test_datasets_that_are_not_there_are_named(file: Path, sites: Path, sammit: Call) -> None:
    """On the side; the others are used."""
    written(file, unseen="none", dataset={name: {} for name in ("eyes", "brains", "cells")})
    (file.parent / "data").mkdir()
    (file.parent / "data" / "brains").symlink_to(sites)
    said = sammit("study", file, "--data", "data", "--dry-run")
    assert said.code == 0 and said.err == "not found, left out: eyes, cells\n"
    assert "brains/fed: unseen none; seeds 0; 1 cell, 0 done" in said.out


WRONG = {
    ("--methods", "fedd"): "methods: there is no method 'fedd': did you mean 'fed'?",
    ("--methods", ""): "methods: must name at least one",
    ("--unseen", "brich"): "unseen: there is no site 'brich': did you mean 'birch'?",
    ("--seeds", "0,x"): "--seeds 0,x: must be whole numbers with commas between",
    ("--seeds", "1,1"): "seeds: names one twice",
    ("--set", "training.round=3"): "unknown key 'training.round': did you mean 'rounds'?",
    ("--set", "method.name=fedavk"): "unknown method 'fedavk'",
    ("--jobs", "-1"): "Invalid value for '--jobs'",
    ("--data", "nowhere"): "nowhere: there is no such folder",
    ("--out", "study.toml"): "study.toml: is a file; choose another --out",
}


@pytest.mark.parametrize("arguments", WRONG, ids=" ".join)
def test_mistakes(file: Path, sites: Path, mistake: Call, arguments: tuple[str, ...]) -> None:
    """One line; nothing is written."""
    assert WRONG[arguments] in mistake("study", file, "--data", sites, *arguments)
    assert list(file.parent.iterdir()) == [file]


def test_costs_are_measured_one_at_a_time(file: Path, mistake: Call) -> None:
    """Two at once would each be slower."""
    written(file, kind="costs", unseen="none")
    assert "--jobs: costs are measured one at a time" in mistake("study", file, "--jobs", "2")


def test_a_stopped_study_says_how_to_go_on(
    file: Path, sites: Path, sammit: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line, exit code 130."""

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("sammit.study.run.run_study", stop)
    said = sammit("study", file, "--data", sites)
    assert said.code == 130 and "the same study again" in said.err and len(said.err.splitlines()) == 1


def test_what_is_shown_while_cells_run(file: Path, sites: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Lines without a terminal; on one, a bar that moves with the rounds."""
    first, second = make_plan(loaded(file.parent, unseen="none"), sites, file.parent / "out").cells
    lines, shown = Lines(2), []
    bar = Bar(2, lambda done, text: shown.append((done, text)))
    for watch in (lines, bar):
        watch.started(first)
        watch.going(1.5, None)
        watch.ended(first, "", 75.0)
        watch.started(second)
        watch.going(0.75, 60.0)
        watch.ended(second, "the disk is on fire", None)
        watch.going(0.0, None)
    assert capsys.readouterr().out.splitlines() == [
        f"{first.name} started",
        f"{first.name} done (1/2, about 1\u00a0min 15\u00a0s left)",
        f"{second.name} started",
        f"{second.name} failed: the disk is on fire (2/2)",
    ]
    assert shown == [
        (0.5, "0/2 cells, 1 running"),
        (1.25, "1/2 cells, 1 running, about 1\u00a0min 0\u00a0s left"),
        (2.0, "2/2 cells, 0 running, 1 failed"),
    ]


SEARCHED: dict[str, Any] = {
    "unseen": "none",
    "search": {"budget": 2},
    "methods": {name: {**table, "search": [{"training": {"lr": 0.5}}]} for name, table in TABLE["methods"].items()},
}


def test_a_search_by_its_command(file: Path, sites: Path, sammit: Call) -> None:
    """Its rows are candidates, its folder is its own; nothing is chosen while one of them fails."""
    searched = written(file, **SEARCHED)
    said = sammit("study", searched, "--data", sites, "--search", "--dry-run")
    assert said.code == 0 and said.out.startswith("study small-search (search): 4 cells, 0 done")
    assert f"{sites.name}/cen.2: unseen none; seeds 0; 1 cell, 0 done" in said.out
    out = behave(file.parent, **{"fed.2": "fail"})
    said = sammit("study", searched, "--data", sites, "--search", "--out", out)
    assert said.code == 2 and "(4/4)" in said.out
    assert f"{out / 'chosen.toml'}: not written, as candidates are missing" in said.err
    assert f"failed: {sites.name}/fed.2/all-seed-0: the disk is on fire" in said.err


def test_a_study_is_not_run_before_its_search(file: Path, sites: Path, mistake: Call) -> None:
    """One line that says what to do first; a search takes its seeds from the file."""
    searched = written(file, **SEARCHED)
    said = mistake("study", searched, "--data", sites)
    assert said.startswith(f"{searched}: has a [search]; run sammit study {searched} --search first")
    assert "--seeds: a search has its own" in mistake("study", searched, "--data", sites, "--search", "--seeds", "1")
    assert "has no [search]" in mistake("study", written(file, unseen="none"), "--data", sites, "--search")
    assert list(file.parent.iterdir()) == [file]
