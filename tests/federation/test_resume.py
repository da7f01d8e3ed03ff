"""A run that is killed at any write and resumed leaves, bit for bit, what an undisturbed one leaves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import tiny
from sammit.errors import UserError


def differences(tmp_path: Path, table: dict[str, Any], moments: list[str], step: int = 1) -> list[str]:
    """What `kill.py` finds."""
    job = {"table": table, "folder": str(tmp_path), "moments": moments, "step": step}
    (tmp_path / "job.json").write_text(json.dumps(job))
    here = Path(__file__).parent
    path = os.pathsep.join([str(here.parent), os.environ.get("PYTHONPATH", "")]).strip(os.pathsep)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    command = [sys.executable, str(here / "kill.py"), str(tmp_path / "job.json")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout.splitlines()[-1]))


def test_killed_before_some_renames(tmp_path: Path, sites: Path) -> None:
    """pFedSAM has every kind of state: shared, personal, moments; draft files lie about."""
    table = tiny.table(sites, "pfedsam", data={"size": 16}, training={"batch_size": 1})
    assert differences(tmp_path, table, ["before"], 131) == []


@pytest.mark.slow
@pytest.mark.parametrize("method", tiny.METHODS)
def test_killed_before_every_rename(tmp_path: Path, sites: Path, method: str) -> None:
    """Every method; killed before a rename is killed after the one before it, with a draft more."""
    table = tiny.table(sites, method, data={"size": 16}, training={"batch_size": 1})
    assert differences(tmp_path, table, ["before"]) == []


@pytest.mark.slow
@pytest.mark.parametrize("method", tiny.METHODS)
def test_killed_with_moments_kept_and_rounds_unjudged(tmp_path: Path, sites: Path, method: str) -> None:
    """Moments kept, the last round reported, validation every other round."""
    training = {"batch_size": 1, "optimiser_state": "keep", "rounds": 3}
    evaluation = {"selection": "last", "every": 2}
    table = tiny.table(sites, method, data={"size": 16}, training=training, evaluation=evaluation)
    assert differences(tmp_path, table, ["before", "after"], 6) == []


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"kd_teacher": "ema"}, {"stage_order": "interleaved"}, {"decoder": "local"}])
def test_killed_with_options_of_pfedsam(tmp_path: Path, sites: Path, options: dict[str, Any]) -> None:
    """State that only some options leave behind."""
    table = tiny.table(sites, "pfedsam", data={"size": 16}, training={"batch_size": 1})
    table["method"] |= options
    assert differences(tmp_path, table, ["before"], 6) == []


def test_a_run_is_a_function_of_its_recipe(tmp_path: Path, sites: Path, runs: dict[str, Path]) -> None:
    """Twice the same run: equal files."""
    again = tiny.run(tiny.experiment(sites, "pfedsam"), tmp_path / "again")
    assert tiny.contents(again) == tiny.contents(runs["pfedsam"])


def stopped(folder: Path, what: Any) -> Path:
    """A run that stopped after its first round."""
    from sammit.federation import local

    def stop(row: dict[str, Any]) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        local.run(what, folder, stop)
    return folder


def test_resume_refuses_another_experiment(tmp_path: Path, sites: Path) -> None:
    """What would be ignored in silence is refused by name."""
    what = tiny.experiment(sites)
    out = stopped(tmp_path / "run", what)
    other = replace(what, training=replace(what.training, lr=1e-4))
    with pytest.raises(UserError, match=r"training\.lr = 0\.002, not 0\.0001"):
        tiny.run(other, out, resume=True)


def test_resume_refuses_changed_images_and_takes_moved_ones(tmp_path: Path) -> None:
    """The data's hashes decide, not their place."""
    root, moved = tmp_path / "root", tmp_path / "moved"
    tiny.make_sites(root)
    what = tiny.experiment(root)
    out = stopped(tmp_path / "run", what)
    image, other = sorted((root / "birch" / "images").iterdir())[:2]
    before = image.read_bytes()
    image.write_bytes(other.read_bytes())
    with pytest.raises(UserError, match="site 'birch' have changed"):
        tiny.run(what, out, resume=True)
    image.write_bytes(before)
    root.rename(moved)
    tiny.run(tiny.experiment(moved), out, resume=True)
    assert tiny.contents(out)["cases.csv"]


def test_a_finished_run_is_left_as_it_is(sites: Path, runs: dict[str, Path]) -> None:
    """Resuming it changes no file."""
    before = {path: path.stat().st_mtime_ns for path in runs["fedavg"].rglob("*")}
    tiny.run(tiny.experiment(sites), runs["fedavg"], resume=True)
    assert {path: path.stat().st_mtime_ns for path in runs["fedavg"].rglob("*")} == before
