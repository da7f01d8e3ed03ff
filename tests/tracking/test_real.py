"""The real MLflow and the real TensorBoard, read back with their own readers."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tiny

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]  # their libraries warn of each other


def run(recipe: Path, out: Path, *options: str) -> str:
    """`sammit run` in a process of its own: their libraries change the process they are imported in."""
    command = [sys.executable, "-c", "from sammit.cli import main; main()", "run", str(recipe), "--out", str(out)]
    done = subprocess.run([*command, *options], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stderr


KILL = """
import os, signal, threading
from sammit.federation.rounds import Rounds
from sammit.tracking.follow import Follower
told, train, rounds = threading.Event(), Rounds._train_round, Follower._rounds

def told_of(self):
    rounds(self)
    told.set()

def killed_in_the_second(self, progress):
    if progress.round == 1:
        told.wait(120)
        os.kill(os.getpid(), signal.SIGKILL)
    return train(self, progress)

Follower._rounds, Rounds._train_round = told_of, killed_in_the_second
from sammit.cli import main
main()
"""


def killed_in_the_second_round(recipe: Path, out: Path, *options: str) -> None:
    """A run that dies without a word, its first round told of."""
    command = [sys.executable, "-c", KILL, "run", str(recipe), "--out", str(out), *options]
    assert subprocess.run(command, capture_output=True).returncode == -9
    assert len(tiny.rows(out)) == 1


def check(out: Path, alone: Path, value: Callable[[str], dict[int, list[float]]]) -> None:
    """Every round's numbers once, the final scores once, and the run folder as without a tracker."""
    rows = tiny.rows(out)
    for site in ("aster", "birch"):
        assert value(f"validation_dice_personal/{site}") == {
            row["round"]: [pytest.approx(row["validation"][site]["personal"], abs=1e-6)] for row in rows
        }
        assert value(f"up_bytes/{site}") == {row["round"]: [row["up_bytes"][site]] for row in rows}
    assert value("loss_mean").keys() == {0, 1}
    summary = tiny.contents(out)["summary.json"]
    assert value("final_dice_mean") == {2: [pytest.approx(summary["mean"]["dice"], abs=1e-6)]}
    mine, other = tiny.contents(out), tiny.contents(alone)
    mine.pop("tracking.json")
    for files in (mine, other):
        files.pop("report.html", None)
    assert mine == other


def test_mlflow(sites: Path, runs: dict[str, Path], tmp_path: Path) -> None:
    """A store in a folder; killed in the second round and resumed it is one run with every point once."""
    pytest.importorskip("mlflow", reason="needs the extra track")
    from mlflow.tracking import MlflowClient

    recipe, out, uri = tiny.recipe(tmp_path / "r.toml", sites, "pfedsam"), tmp_path / "run", f"file:{tmp_path / 'ml'}"
    killed_in_the_second_round(recipe, out, "--track", "mlflow", "--track-to", uri)
    assert run(recipe, out, "--track", "mlflow", "--track-to", uri, "--resume") == ""
    run(recipe, out, "--track", "mlflow", "--track-to", uri, "--resume", "--track-pictures")  # a finished run
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
        client = MlflowClient(tracking_uri=uri)
        (found,) = client.search_runs([client.get_experiment_by_name("sammit").experiment_id])
        name = found.info.run_id

        def value(metric: str) -> dict[int, list[float]]:
            points: dict[int, list[float]] = {}
            for one in client.get_metric_history(name, metric):
                points.setdefault(one.step, []).append(one.value)
            return points

        check(out, runs["pfedsam"], value)
        assert found.info.status == "FINISHED" and found.info.run_name == "tiny-seed-0"
        assert found.data.params["training.rounds"] == "2" and found.data.params["method.name"] == "pfedsam"
        kept = {one.path for folder in ("", "models", "figures") for one in client.list_artifacts(name, folder or None)}
        assert {"models/global.safetensors", "models/last.safetensors", "figures/dice-by-site.png"} <= kept
        assert {"report.html", "config.toml", "summary.json"} <= kept and "pictures" not in kept
        model = Path(client.download_artifacts(name, "models/global.safetensors", str(tmp_path)))
        assert model.read_bytes() == (out / "models" / "global.safetensors").read_bytes()


def test_mlflow_at_an_address_where_nobody_is(sites: Path, tmp_path: Path) -> None:
    """One line, and the run ends as it would have."""
    pytest.importorskip("mlflow", reason="needs the extra track")
    recipe, out = tiny.recipe(tmp_path / "r.toml", sites), tmp_path / "run"
    said = run(recipe, out, "--track", "mlflow", "--track-to", "http://127.0.0.1:9")
    assert len(said.splitlines()) == 1 and "the run goes on untracked" in said and (out / "report.html").is_file()


def test_tensorboard(sites: Path, runs: dict[str, Path], tmp_path: Path) -> None:
    """The same with event files, in which pictures are asked for."""
    pytest.importorskip("tensorboard", reason="needs the extra track")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    recipe, out = tiny.recipe(tmp_path / "r.toml", sites, "pfedsam"), tmp_path / "run"
    options = ("--track", "tensorboard", "--track-to", str(tmp_path / "board"), "--track-pictures")
    killed_in_the_second_round(recipe, out, *options)
    assert run(recipe, out, *options, "--resume") == ""
    run(recipe, out, *options, "--resume")
    (folder,) = (tmp_path / "board").iterdir()
    events: Any = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0}).Reload()

    def value(name: str) -> dict[int, list[float]]:
        points: dict[int, list[float]] = {}
        for one in events.Scalars(name):
            points.setdefault(one.step, []).append(one.value)
        return points

    check(out, runs["pfedsam"], value)
    assert folder.name == "tiny-seed-0" and "recipe/text_summary" in events.Tags()["tensors"]
    images = set(events.Tags()["images"])
    assert {"figures/validation-dice.png", "pictures/aster/best-personal.png"} <= images
    assert len(events.Images("figures/validation-dice.png")) == 1
    assert (folder / "models" / "global.safetensors").read_bytes() == (
        out / "models" / "global.safetensors"
    ).read_bytes()
    assert (folder / "report.html").is_file()
    other = shutil.copytree(runs["fedavg"], tmp_path / "other")
    run(tiny.recipe(tmp_path / "o.toml", sites), other, *options[:4], "--resume")
    assert {path.name for path in (tmp_path / "board").iterdir()} == {"tiny-seed-0", "tiny-seed-0-2"}
