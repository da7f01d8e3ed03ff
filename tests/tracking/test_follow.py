"""A tracker follows a run: everything once, nothing in the run's way, no patient's image unless that was asked for."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import tiny
from sammit import plugins
from sammit.errors import UserError
from sammit.federation import local
from sammit.tracking import follow
from sammit.tracking.follow import FILE, Follower, followed


class Place:
    """A place that keeps runs in memory, and a tracker of it; `broken` says what a server in trouble would."""

    def __init__(self, broken: str = "") -> None:
        self.address, self.broken = "memory", broken
        self.begun: list[tuple[str, str]] = []
        self.points: list[tuple[int, str, float]] = []
        self.pictures: list[str] = []
        self.files: dict[str, bytes] = {}
        self.ends: list[bool] = []

    def begin(self, name: str, recipe: Mapping[str, str], known: str) -> str:
        self.begun.append((name, known))
        self.recipe = dict(recipe)
        return known or "run-1"

    def steps(self, name: str) -> set[int]:
        return {step for step, own, _ in self.points if own == name}

    def log(self, step: int, numbers: Mapping[str, float], seconds: float) -> None:
        if self.broken:
            raise OSError(self.broken)
        self.points += [(step, name, value) for name, value in numbers.items()]

    def picture(self, name: str, path: Path) -> None:
        assert path.read_bytes().startswith(b"\x89PNG")
        self.pictures.append(name)

    def file(self, path: Path, folder: str) -> None:
        self.files[f"{folder}/{path.name}".lstrip("/")] = path.read_bytes()

    def end(self, finished: bool) -> None:
        self.ends.append(finished)


@pytest.fixture(scope="module")
def finished(runs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run to which tracking may add its file."""
    return Path(shutil.copytree(runs["pfedsam"], tmp_path_factory.mktemp("tracked") / "run"))


@pytest.fixture(scope="module")
def plain(finished: Path) -> Place:
    """A place that was told of the run twice, without pictures of cases."""
    return told(told(Place(), finished), finished)


@pytest.fixture
def without_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers alone are told: figures and a report take a second."""
    monkeypatch.setattr(follow, "keep", lambda *arguments: None)


def told(place: Place, out: Path, pictures: bool = False) -> Place:
    """The place after a tracker has seen the run end."""
    Follower("memory", place, out, pictures).close("finished")
    return place


def test_a_finished_run_is_told_whole_and_once(finished: Path, plain: Place) -> None:
    """Numbers are the log's and the summary's; files are the folder's."""
    place = plain
    assert place.begun == [("tiny-seed-0", ""), ("tiny-seed-0", "run-1")] and place.ends == [True, True]
    assert len({(step, name) for step, name, _ in place.points}) == len(place.points)
    for row in tiny.rows(finished):
        for site, dice in row["validation"].items():
            assert (row["round"], f"validation_dice_personal/{site}", dice["personal"]) in place.points
            assert (row["round"], f"up_bytes/{site}", row["up_bytes"][site]) in place.points
    assert place.recipe["training.rounds"] == "2" and place.recipe["method.name"] == "pfedsam"
    assert {"config.toml", "summary.json", "models/global.safetensors", "models/sites/aster.safetensors"} <= {
        *place.files
    }
    assert "figures/dice-by-site.png" in place.pictures


def test_no_image_and_no_case_leaves_unasked(finished: Path, plain: Place) -> None:
    """Figures are the run's curves; no file names a case. (Images of cases are JPEG, those of scales of colour PNG.)"""
    cases = {line.split(",")[1] for line in (finished / "cases.csv").read_text().splitlines()[1:]}
    assert not [name for name in plain.pictures if name.startswith("pictures/")]
    for name, data in plain.files.items():
        if not name.endswith(".safetensors"):
            assert not [case for case in cases if f"{case}".encode() in data], name
    assert cases and b"image/jpeg" not in plain.files["report.html"]


@pytest.mark.slow
def test_pictures_that_were_asked_for(finished: Path) -> None:
    full = told(Place(), finished, pictures=True)
    assert "pictures/aster/best-personal.png" in full.pictures and b"image/jpeg" in full.files["report.html"]


def test_what_a_kill_left_out_is_told_later(finished: Path, without_files: None) -> None:
    place = Place()
    Follower("memory", place, finished, False).close("stopped")
    assert not place.begun  # a run that never said a word may be another's folder
    place.points = [(0, "seconds", 1.0)]
    told(place, finished)
    assert place.steps("loss_mean") == {1} and place.steps("seconds") == {0, 1}


def test_a_server_that_is_down(finished: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One line, once; the run hears nothing of it."""
    with caplog.at_level(logging.WARNING):
        follower = Follower("memory", Place("no route\nto host"), finished, False)
        for _ in range(3):
            follower.tell("round")
        follower.close("finished")
    assert [one.getMessage() for one in caplog.records] == [
        "memory: no route to host; the run goes on untracked, the same command with --resume tells the rest"
    ]


def test_a_tracked_run_is_the_same_run(
    sites: Path, runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, without_files: None
) -> None:
    """But for one small file; stopped after its first round and resumed, nothing is told twice."""
    place, out, what = Place(), tmp_path / "run", tiny.experiment(sites)
    load, fake = plugins.load, SimpleNamespace(Tracker=lambda address: place)
    monkeypatch.setattr(plugins, "load", lambda kind, name: fake if kind == "trackers" else load(kind, name))

    def stop(row: dict[str, Any], tell: Callable[[dict[str, Any]], None]) -> None:
        tell(row)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), followed("memory", "", out, False) as tell:
        local.run(what, out, lambda row: stop(row, tell))
    assert place.ends == [False] and place.steps("seconds") == {0}
    with followed("memory", "", out, False) as tell:
        local.run(what, out, tell, resume=True)
    assert place.ends == [False, True] and len({(s, n) for s, n, _ in place.points}) == len(place.points)
    mine = tiny.contents(out)
    assert b'"run": "run-1"' in mine.pop(FILE)
    assert mine == tiny.contents(runs["fedavg"])


@pytest.mark.parametrize("name", ["mlflow", "tensorboard"])
def test_what_is_not_installed(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line with the mend, before anything runs."""
    monkeypatch.setattr(f"sammit.tracking.{name}.find_spec", lambda package: None)
    with pytest.raises(UserError, match=rf'--track {name}: is not installed; .*"sammit\[track\]"'):
        followed(name, "", tmp_path / "run", False).__enter__()
    assert not list(tmp_path.iterdir())


def test_a_database_needs_the_whole_of_mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Told before anything runs, not in the log of a run that goes on untracked."""
    from sammit.tracking import mlflow

    monkeypatch.setattr(mlflow, "find_spec", lambda package: object() if package == "mlflow" else None)
    with pytest.raises(UserError, match=r"sqlite:///ml.db is a database.*; pip install mlflow, or name a server"):
        mlflow.Tracker("sqlite:///ml.db")
    assert mlflow.Tracker("file:/tmp/x").address == "file:/tmp/x"


def test_a_password_is_in_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor in a message: it goes where MLflow looks for it."""
    from sammit.tracking import mlflow

    monkeypatch.setattr(mlflow, "find_spec", lambda package: object())
    monkeypatch.setattr(mlflow.os, "environ", environment := {})
    assert mlflow.Tracker("https://me:secret@fed.example.org/x").address == "https://fed.example.org/x"
    assert environment == {"MLFLOW_TRACKING_USERNAME": "me", "MLFLOW_TRACKING_PASSWORD": "secret"}
    assert mlflow.Tracker("postgresql://me:secret@db/x").address == "postgresql://db/x"
    with pytest.raises(UserError, match="no place is named; set MLFLOW_TRACKING_URI or --track-to"):
        mlflow.Tracker("")


def test_names_that_a_server_would_refuse() -> None:
    from sammit.tracking.names import of_site

    assert [of_site(name) for name in ("RIM-ONE r3", "a/b", "..", "Zürich (2)", "$x")] == [
        "RIM-ONE r3", "a_b", "_", "Z_rich _2_", "_x",
    ]  # fmt: skip
