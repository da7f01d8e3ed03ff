"""The real nnU-Net. Without its environment these tests fail, and say how to make it: `make .venv-nnunet/ready`."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tiny
from federation.test_resume import differences
from nnunet.conftest import Held, a_case, blobs
from nnunet.test_method import built, planned, tiny_run, work
from nnunet.test_process import gone
from sammit.config import Experiment
from sammit.data.readers import read_image
from sammit.federation import in_process
from sammit.methods.fednnunet import Method, Options, _analysed
from sammit.methods.state import put, take
from sammit.nnunet import process
from sammit.nnunet.setup import Setup
from sammit.predict import evaluate, load_predictor, predict
from sammit.recipe import experiment_from
from sammit.runs import RunFolder, read_state
from sammit.vocabulary import Update

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """As runs have it; and the process is gone at the end."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    process.close()
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def run(sites: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two rounds on two generated sites; no test may change it."""
    return tiny.run(tiny_run(sites), tmp_path_factory.mktemp("nnunet") / "run")


def test_a_run_is_a_function_of_its_recipe(run: Path, sites: Path, tmp_path: Path) -> None:
    """In another process of nnU-Net's, too: every file, bit for bit."""
    process.close()
    assert tiny.contents(tiny.run(tiny_run(sites), tmp_path / "again")) == tiny.contents(run)


def test_killed_and_resumed(sites: Path, tmp_path: Path) -> None:
    """A few of the moments at which a run can die; what it leaves is what an undisturbed run leaves."""
    what = tiny.table(sites, "fednnunet", model={"name": "nnunet", "weights": "random", "adapter": []})
    what["training"] |= {"optimiser_state": "keep"}
    assert differences(tmp_path, what, ["before"], 15) == []


def test_weights_are_averaged(sites: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The round's network is the mean, made here, of two networks that went different ways."""
    updates: list[Update] = []
    encode = in_process.encode
    monkeypatch.setattr(in_process, "encode", lambda m: (isinstance(m, Update) and updates.append(m)) or encode(m))
    found = read_state(tiny.run(tiny_run(sites, training={"rounds": 1}), tmp_path / "run") / "models/last.safetensors")[
        0
    ]
    one, other = updates
    total = one.samples + other.samples
    assert one.samples != other.samples and found.keys() == one.tensors.keys()
    for name, tensor in found.items():
        mean = (one.tensors[name].double() * one.samples + other.tensors[name].double() * other.samples) / total
        assert torch.allclose(tensor.double(), mean, atol=1e-7)
        assert not torch.equal(one.tensors[name], other.tensors[name])


def test_it_predicts_and_is_scored_from_the_run_folder(run: Path, sites: Path, tmp_path: Path) -> None:
    """In a new process; a case's score is the run's own."""
    process.close()
    image = sorted((sites / "aster" / "images").iterdir())[0]
    masks = predict(load_predictor(run), [image], tmp_path / "masks")
    assert len(masks) == 2
    rows = {(row["site"], row["case"], row["structure"]): row["dice"] for row in evaluate(run, sites)}
    lines = [line.split(",") for line in (run / "cases.csv").read_text().splitlines()]
    for line in lines[1:]:
        row = dict(zip(lines[0], line, strict=True))
        assert rows[row["site"], row["case"], row["structure"]] == pytest.approx(float(row["dice"]))


def test_it_learns(sites: Path, tmp_path: Path) -> None:
    """Four rounds of fifteen steps: both sites' losses fall, and the clearer site's discs are found."""
    training = {"rounds": 4, "local_steps": 15}
    out = tiny.run(tiny_run(sites, training=training, evaluation={"every": 4}), tmp_path / "run")
    first, *_, last = (row["loss"] for row in tiny.rows(out))
    assert all(last[site] < first[site] - 0.1 for site in tiny.LOOKS)
    found = json.loads((out / "summary.json").read_text())["sites"]["aster"]["models"]["global"]
    assert found["disc"]["dice"]["mean"] > 0.6


def volumes(name: str, count: int, seed: int, overlap: bool) -> Held:
    """Grey volumes of 16 bits with thick slices, two structures, and a corner that nobody labelled."""
    loaded = []
    for number in range(count):
        image, truth = blobs(seed + number, (12, 36, 32))
        valid = np.ones(truth.shape[:-1], bool)
        valid[:2, :5, :5] = False
        if overlap:
            truth[..., 1] |= truth[..., 0]
        spacing = (2.0, 1.0, 1.0 + 0.1 * (number % 2))
        loaded.append(a_case(f"{name} {number}", image.astype(np.uint16) * 257, truth, valid=valid, spacing=spacing))
    return Held(name, loaded)


@pytest.mark.parametrize(("configuration", "overlap"), [("3d_fullres", False), ("2d", True)])
def test_volumes_and_unlabelled_pixels(configuration: Any, overlap: bool) -> None:
    """All the way from survey to masks in the volume's own grid."""
    where = volumes("a", 3, 0, overlap)
    method = Method(Options(configuration=configuration, gpu_memory_gb=1.0))
    experiment = planned(method, where, volumes("b", 2, 50, overlap), local_steps=2)
    setup = Setup.of(experiment.model)
    assert setup.dimensions == (3 if configuration == "3d_fullres" else 2)
    apart = {"background": 0, "structure 1": 1, "structure 2": 2, "ignore": 3}
    regions = {"background": 0, "structure 1": [1, 3], "structure 2": [2, 3], "ignore": 4}
    assert setup.labels == (regions if overlap else apart) and setup.channels == 1
    model = built(experiment)
    assert np.isfinite(method.train(work(experiment, model, where)).metrics["loss"])
    one = where.loaded[1]
    masks = model.segment_case(one.image, one.spacing)
    assert masks.shape == one.truth.shape
    assert overlap or not masks.all(-1).any()  # as labels, no pixel has both


def test_what_trains_is_what_is_live() -> None:
    """Each live tensor gets a gradient and moves; what nnU-Net never trains stays as it was drawn."""
    method, where = Method(), colours("a", 3)
    experiment = planned(method, where, local_steps=2)
    model = built(experiment)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    private = method.train(work(experiment, model, where)).private
    moved = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    live = {name for name, _ in model.named_parameters()}
    assert moved == live and before.keys() - live
    assert private.keys() == {f"optimiser.{name}|momentum_buffer" for name in live}


def colours(name: str, count: int, side: int = 40) -> Held:
    """Images in colour."""
    return Held(name, [a_case(f"{name} {n}", *blobs(n, (1, side, side), True)) for n in range(count)])


def test_momentum_counts_and_is_all_that_stays() -> None:
    """A second round from kept momentum differs from one without; the same momentum gives the same round again."""
    method, where = Method(), colours("a", 3)
    experiment = planned(method, where, local_steps=1)
    model = built(experiment)
    private = method.train(work(experiment, model, where)).private
    start = take(model, [name for name, _ in model.named_parameters()])
    found = []
    for kept in (private, {}, private):
        put(model, start)
        method.train(work(experiment, model, where, 1, kept))
        found.append(take(model, start))
    first, without, again = found
    assert all(torch.equal(first[name], tensor) for name, tensor in again.items())
    assert any(not torch.equal(first[name], tensor) for name, tensor in without.items())


def test_the_rate_falls_over_the_rounds() -> None:
    """nnU-Net's polynomial, planned for the rounds that are run."""
    method, where = Method(), colours("a", 3)
    experiment = planned(method, where, local_steps=1)
    model = built(experiment)
    start = take(model, [name for name, _ in model.named_parameters()])
    lengths = []
    for number in (0, TRAINED - 1):
        put(model, start)
        where_in_run = replace(
            work(experiment, model, where, number), training=replace(experiment.training, rounds=TRAINED)
        )
        private = method.train(where_in_run).private
        name = "encoder.stages.0.0.convs.0.conv.weight"
        step = take(model, [name])[name] - start[name]
        lengths.append(float((step / private[f"optimiser.{name}|momentum_buffer"]).abs().median()))
    assert lengths[0] == pytest.approx(0.01 * 1.99, rel=0.05)  # Nesterov's first step: g + 0.99 g
    assert lengths[1] / lengths[0] == pytest.approx((1 / TRAINED) ** 0.9, rel=0.05)


TRAINED = 10


def test_the_plan_is_that_of_all_cases_pooled() -> None:
    """From summaries alone nnU-Net plans what it plans from every case's own numbers."""
    sites = [colours("a", 4, 40), colours("b", 3, 64), colours("c", 2, 96)]
    setup = Setup.of(planned(Method(), *sites).model)
    seen = [_analysed(process.shared(), one) for site in sites for one in site.loaded]
    drawn = np.concatenate([case.intensities for case in seen], axis=1)
    facts = {
        "spacings": [list(case.spacing) for case in seen],
        "shapes_after_crop": [list(case.shape) for case in seen],
        "median_relative_size_after_cropping": float(np.median([case.relative_size for case in seen])),
        "foreground_intensity_properties_per_channel": {
            str(c): {"mean": float(drawn[c].mean()), "std": float(drawn[c].std())} for c in range(3)
        },
    }
    asked = {"fingerprint": facts, "dataset": json.loads(setup.dataset), "gpu_memory_gb": 8.0, "patch": 0}
    pooled = process.shared().ask("plan", asked)[0]["plan"]
    federated = json.loads(setup.plan)
    assert federated["configurations"] == pooled["configurations"]
    for channel, wanted in facts["foreground_intensity_properties_per_channel"].items():
        found = federated["foreground_intensity_properties_per_channel"][channel]
        assert {name: found[name] for name in wanted} == pytest.approx(wanted)


def test_a_cap_makes_a_smaller_network() -> None:
    where = colours("a", 3, 130)
    free, capped = (Setup.of(planned(Method(Options(patch=patch)), where).model) for patch in (0, 32))
    plans = [json.loads(one.plan)["configurations"]["2d"] for one in (free, capped)]
    assert [plan["patch_size"] for plan in plans] == [[160, 160], [32, 32]]
    assert plans[0]["median_image_size_in_voxels"] == plans[1]["median_image_size_in_voxels"] == [130, 130]
    stages = [plan["architecture"]["arch_kwargs"]["n_stages"] for plan in plans]
    assert stages[0] > stages[1]


PARENT = """
from sammit.nnunet.process import shared
one = shared()
print(one._child.pid, one._folder, flush=True)
one.ask("cases", {})
"""


def test_it_ends_when_its_parent_is_killed() -> None:
    """Even while it starts, which takes seconds."""
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True)
    assert parent.stdout
    pid, folder = parent.stdout.readline().split()
    time.sleep(2)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    assert gone(int(pid)) and not Path(folder).exists()


def nuclei(root: Path) -> Experiment:
    """Small patches, few steps, for one core."""
    recipe: dict[str, Any] = {
        "data": {"root": str(root), "structures": {"nucleus": "> 0"}},
        "model": {"name": "nnunet", "weights": "random"},
        "method": {"name": "fednnunet", "patch": 64, "gpu_memory_gb": 0.25},
        "training": {"rounds": 2, "local_steps": 4, "optimiser_state": "keep", "threads": 1},
        "evaluation": {"selection": "last", "every": 2},
    }
    return experiment_from(recipe)


def test_two_rounds_on_real_nuclei(tmp_path: Path) -> None:
    """Grey images of two microscopes, five of each."""
    real = Path(__file__).parents[3] / "shared" / "data" / "nuclei"
    if not real.is_dir():
        pytest.skip("the real images (../shared/data) are not here")
    for site, kind in product(("fluo256", "fluo360"), ("images", "masks")):
        (tmp_path / "sites" / site / kind).mkdir(parents=True)
        for image in sorted((real / site / kind).iterdir())[:5]:
            (tmp_path / "sites" / site / kind / image.name).symlink_to(image)
    out = tiny.run(nuclei(tmp_path / "sites"), tmp_path / "run")
    first, second = tiny.rows(out)
    assert first["failed"] == second["failed"] == {} and list(second["loss"]) == ["fluo256", "fluo360"]
    assert sum(second["loss"].values()) < sum(first["loss"].values())
    setup = Setup.of(RunFolder.open(out).experiment.model)
    assert setup.channels == 1 and setup.labels == {"background": 0, "structure 1": 1}
    image = sorted((real / "fluo360" / "images").iterdir())[-1]
    mask = predict(load_predictor(out), [image], tmp_path / "masks")[0]
    assert read_image(mask).array.shape == read_image(image).array.shape
