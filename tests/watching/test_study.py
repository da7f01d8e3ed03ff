"""What a study's folder tells of its cells: done, running, failed, to come."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from sammit.errors import UserError
from sammit.lock import locked
from sammit.study.listing import FILE, Listed, Listing
from sammit.watching.study import look_at_study


def make(out: Path, *names: str) -> Listing:
    cells = [Listed(f"d/{name}/all-seed-0", "d", name, name.title(), "", 0, 4) for name in names]
    listing = Listing("A title", "scores", "summary.json", 0.02, [], "", cells)
    (out / "study.json").write_text("{}")
    listing.write(out)
    for cell in cells:
        cell.folder(out).mkdir(parents=True)
    return listing


def test_every_state(tmp_path: Path, runs: dict[str, Path]) -> None:
    """A log is of this start of the study if it is younger than the list of cells, which each start writes."""
    done, fails, dies, runs_, begins, stale, _ = make(tmp_path, *"abcdefg").cells
    (done.folder(tmp_path) / "summary.json").write_text(json.dumps({"seconds": {"total": 8.0}}))
    for cell, said in ((fails, "round 1\nerror: the disk is on fire\n\n"), (dies, "round 1\n"), (runs_, "round 1\n")):
        cell.log(tmp_path).write_text(said)
    for cell in (dies, runs_):
        (cell.folder(tmp_path) / "config.toml").write_bytes((runs["fedavg"] / "config.toml").read_bytes())
    (runs_.folder(tmp_path) / "rounds.jsonl").write_bytes((runs["fedavg"] / "rounds.jsonl").read_bytes())
    begins.log(tmp_path).write_text("")
    stale.log(tmp_path).write_text("error: of yesterday\n")
    os.utime(stale.log(tmp_path), (1, 1))
    with locked(tmp_path), locked(runs_.folder(tmp_path), "run"):
        seen = look_at_study(tmp_path)
    states = [one.state for one in seen.cells]
    assert states == ["done", "failed", "failed", "running", "running", "waiting", "waiting"]
    assert seen.cells[1].reason == "the disk is on fire" and "without a word" in seen.cells[2].reason
    assert seen.cells[3].run and seen.cells[3].run.done == 2 and seen.cells[4].run is None
    assert seen.left == pytest.approx(8.0 * (0.5 + 1 + 1 + 1) / 2) and not seen.over


def test_nobody_works_on_it(tmp_path: Path) -> None:
    make(tmp_path, "a").cells[0].log(tmp_path).write_text("round 1\n")
    seen = look_at_study(tmp_path)
    assert seen.over and seen.left is None and [one.state for one in seen.cells] == ["waiting"]


def test_folders_that_do_not_say(tmp_path: Path) -> None:
    """Those of older versions, and damaged ones."""
    with pytest.raises(UserError, match="the same `sammit study` again writes it"):
        look_at_study(tmp_path)
    (tmp_path / FILE).write_text('{"cells": [1]}')
    with pytest.raises(UserError, match="is damaged"):
        look_at_study(tmp_path)
