"""Whole runs in one process: what they leave, what travels, and what a site's trouble does."""

from __future__ import annotations

import gc
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from federation.hand import folder_of
from sammit import plugins
from sammit.data.site import Site
from sammit.errors import UserError
from sammit.federation import local
from sammit.federation.prepare import prepare
from sammit.runs import RunFolder, read_state
from sammit.vocabulary import Batch

FILES = {"config.toml", "environment.json", "splits.json", "rounds.jsonl", "cases.csv", "summary.json"}
SUMMARY = {
    "method", "model", "dataset", "protocol", "scored", "seed", "rounds", "selected_round", "sites", "unseen", "mean",
    "pooled", "worst_site", "parameters", "traffic", "steps", "cross", "seconds", "peak_rss_bytes",
}  # fmt: skip
SITE = {"cases", "patients", "reported", "models", "undefined", "dice", "iou"}
ROUND = {"server", "round", "loss", "steps", "numbers", "validation", "up_bytes", "down_bytes", "seconds", "failed"}


def summary_of(run: Path) -> dict[str, Any]:
    """`summary.json`."""
    return dict(json.loads((run / "summary.json").read_text()))


@pytest.mark.parametrize("method", tiny.METHODS)
def test_the_run_folder_is_as_documented(runs: dict[str, Path], method: str) -> None:
    """Every file of the design, and exactly its keys."""
    run = runs[method]
    assert {path.name for path in run.iterdir() if path.is_file()} >= FILES
    assert {path.name for path in (run / "models").iterdir()} >= {"global.safetensors", "last.safetensors"}
    summary = summary_of(run)
    assert set(summary) == SUMMARY
    assert all(set(entry) == SITE for entry in summary["sites"].values())
    assert set(summary["parameters"]) == {"total", "trainable", "shared", "local"}
    assert set(summary["traffic"]) == {"up_bytes_per_site_round", "down_bytes_per_site_round", "total_bytes"}
    assert set(summary["seconds"]) == {"total", "per_round"}
    assert all(set(row) == ROUND for row in tiny.rows(run))
    assert not [path for path in run.rglob("*") if ".part" in path.name]
    personal = {path.stem for path in (run / "models" / "sites").glob("*")}
    judged = plugins.load("methods", method).Method.judged  # also where what stays has no name in the model
    assert personal == (set(tiny.LOOKS) if "personal" in judged else set())
    assert (run / "models" / "global.safetensors").stat().st_mode & 0o044 == 0o044


def test_all_sites_take_turns_in_one_model(tmp_path: Path, sites: Path) -> None:
    """Ten workers, one network, and no second copy of it while they train."""
    from sammit.models.sam import PromptFreeSam

    root = tmp_path / "root"
    for index in range(5):
        for site in tiny.LOOKS:
            shutil.copytree(sites / site, root / f"{site}{index}")
    (root / "dataset.toml").write_bytes((sites / "dataset.toml").read_bytes())
    gc.collect()
    before = sum(type(thing) is PromptFreeSam for thing in gc.get_objects())
    what = tiny.experiment(root, "pfedsam", data={"size": 16}, training={"rounds": 1, "local_steps": 1})
    prepared = prepare(what)
    workers = local.make_workers(RunFolder(tmp_path / "run", what), prepared)
    assert len(workers) == 10
    assert {id(worker.backbone) for worker in workers.values()} == {id(prepared.backbone)}
    assert sum(type(thing) is PromptFreeSam for thing in gc.get_objects()) == before + 1


@pytest.mark.parametrize("training", [{"local_steps": 3}, {"local_steps": 0, "local_epochs": 1.0}])
def test_pooled_training_takes_as_many_steps_as_all_sites(
    tmp_path: Path, sites: Path, training: dict[str, Any]
) -> None:
    """Otherwise the comparison would not be at equal work."""
    training = {**training, "rounds": 1}
    steps = {}
    for method in ("fedavg", "centralised"):
        what = tiny.experiment(sites, method, data={"size": 16}, training=training)
        steps[method] = tiny.rows(tiny.run(what, tmp_path / method))[0]["steps"]
    assert steps["centralised"] == {"pooled": sum(steps["fedavg"].values())}


def test_an_unseen_site_takes_no_part_and_is_tested_whole(tmp_path: Path, sites: Path) -> None:
    """All its cases are test cases; the summary says how it was judged."""
    what = tiny.experiment(sites, "pfedsam", data={"size": 16}, evaluation={"unseen": ["birch"]})
    run = tiny.run(what, tmp_path / "run")
    summary = summary_of(run)
    assert list(summary["sites"]) == ["aster"]
    unseen = summary["unseen"]["birch"]
    assert set(unseen) == SITE | {"rule"}
    assert (unseen["reported"], unseen["models"]["personal"]) == ("global", None)
    assert unseen["rule"].startswith("the shared part only, experts bypassed")
    assert unseen["cases"] == len(list((sites / "birch" / "images").iterdir()))
    assert set(json.loads((run / "splits.json").read_text())["birch"].values()) == {"test"}
    assert all(list(row["loss"]) == ["aster"] for row in tiny.rows(run))
    assert not (run / "models" / "sites" / "birch.safetensors").exists()


@pytest.mark.parametrize(
    ("method", "tables", "message"),
    [
        ("fedavg", {"training": {"min_sites": 3}}, "min_sites: 3, but 2 sites train"),
        ("fedavg", {"training": {"device": "cuda:99"}}, "training.device: 'cuda:99' cannot be used here"),
        ("fedavg", {"training": {"device": "gpu"}}, "training.device: 'gpu' cannot be used here"),
        ("fedavg", {"evaluation": {"unseen": ["aster", "birch"]}}, "every site is unseen"),
    ],
)
def test_refused_before_anything_is_written(
    tmp_path: Path, sites: Path, method: str, tables: dict[str, Any], message: str
) -> None:
    """One line, no folder."""
    with pytest.raises(UserError, match=message):
        tiny.run(tiny.experiment(sites, method, **tables), tmp_path / "run")
    assert not (tmp_path / "run").exists()


Batches = Callable[..., Iterator[Batch]]


def trouble(monkeypatch: pytest.MonkeyPatch, what: Callable[[Batch], Batch], round_index: int = 1) -> None:
    """From now on the batches of birch go through `what` in one round; those of its last local stage do not."""
    original: Batches = Site.batches

    def batches(self: Site, steps: int, batch_size: int, key: tuple[object, ...]) -> Iterator[Batch]:
        for batch in original(self, steps, batch_size, key):
            ill = (self.name, key[2]) == ("birch", round_index) and key[3] != "final"
            yield what(batch) if ill else batch

    monkeypatch.setattr(Site, "batches", batches)


def broken(batch: Batch) -> Batch:
    """A site whose machine gives up."""
    raise RuntimeError("no\nmemory")


def poisoned(batch: Batch) -> Batch:
    """A site whose training diverges."""
    return Batch(batch.images * float("nan"), batch.truth, batch.valid)


@pytest.mark.parametrize("method", ["fedavg", "pfedsam"])
@pytest.mark.parametrize(("what", "reason"), [(broken, "RuntimeError: no memory"), (poisoned, "NaN or infinit")])
def test_a_site_in_trouble_keeps_its_state_and_the_others_go_on(
    tmp_path: Path, sites: Path, monkeypatch: pytest.MonkeyPatch, method: str, what: Any, reason: str
) -> None:
    """Reported in one line; its private state stays at the last round that was taken."""
    trouble(monkeypatch, what)
    run = tiny.run(tiny.experiment(sites, method, data={"size": 16}), tmp_path / "run")
    first, second = tiny.rows(run)
    assert first["failed"] == {}
    assert list(second["failed"]) == ["birch"] and reason in second["failed"]["birch"]
    assert list(second["loss"]) == ["aster"]
    rounds = {site: read_state(folder_of(run, site) / "committed.safetensors") for site in tiny.LOOKS}
    assert {site: facts["round"] for site, (_, facts) in rounds.items()} == {"aster": 1, "birch": 0}
    assert all(bool(torch.isfinite(tensor).all()) for state, _ in rounds.values() for tensor in state.values())


@pytest.mark.parametrize("what", [broken, pytest.param(poisoned, marks=pytest.mark.slow)])
def test_too_few_sites_stop_a_run_that_goes_on_once_they_are_mended(
    tmp_path: Path, sites: Path, monkeypatch: pytest.MonkeyPatch, what: Any
) -> None:
    """And ends as if nothing had been."""
    experiment = tiny.experiment(sites, "pfedsam", data={"size": 16}, training={"min_sites": 2})
    with monkeypatch.context() as patch:
        trouble(patch, what)
        with pytest.raises(UserError, match=r"round 1: 1 of 2 sites answered.*\(birch: .*--resume") as raised:
            tiny.run(experiment, tmp_path / "run")
    assert "\n" not in str(raised.value)
    run = tiny.run(experiment, tmp_path / "run", resume=True)
    assert tiny.contents(run) == tiny.contents(tiny.run(experiment, tmp_path / "whole"))


def test_what_sites_tell_of_their_data_is_written_down(
    tmp_path: Path, sites: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever answers for a site can read every number that left it before the first round, and what for."""
    from sammit.methods import fedavg
    from sammit.vocabulary import Declared, SiteData, State

    def survey(self: object, site: SiteData) -> State:
        return {"count": torch.tensor([site.samples("train")]), "mean.red": torch.tensor([0.5])}

    declared = (Declared("count", (1,), "int64", "how many"), Declared("mean.", None, "float32", "how bright"))
    monkeypatch.setattr(fedavg.Method, "survey", survey)
    monkeypatch.setattr(fedavg.Method, "surveyed", declared)
    run = tiny.run(tiny.experiment(sites, data={"size": 16}, training={"rounds": 1}), tmp_path / "run")
    told = json.loads((run / "surveys.json").read_text())
    parts = json.loads((run / "splits.json").read_text())
    for site in ("aster", "birch"):
        train = list(parts[site].values()).count("train")
        assert told[site] == {
            "count": {"purpose": "how many", "values": [train]},
            "mean.red": {"purpose": "how bright", "values": [0.5]},
        }


def test_a_split_of_its_own_is_the_same_for_all_seeds(sites: Path) -> None:
    """Training differs with the seed, who is tested does not."""
    from sammit.federation.prepare import prepare

    def parts(seed: int, split_seed: int) -> list[dict[str, str]]:
        experiment = replace(tiny.experiment(sites, data={"split_seed": split_seed}), seed=seed)
        return [dict(site.parts) for site in prepare(experiment).sites]

    assert parts(1, 0) == parts(2, 0) == parts(0, -1)
    assert len({str(parts(seed, -1)) for seed in range(6)}) > 1


def test_a_run_need_not_validate(tmp_path: Path, sites: Path) -> None:
    """Where the last round is reported anyway; its scores are those of a run that did."""
    asked: dict[str, Any] = {"data": {"size": 16}, "evaluation": {"every": 0, "selection": "last"}}
    without = tiny.run(tiny.experiment(sites, **asked), tmp_path / "without")
    asked["evaluation"] = {"every": 1, "selection": "last"}
    validated = tiny.run(tiny.experiment(sites, **asked), tmp_path / "with")
    assert [row["validation"] for row in tiny.rows(without)] == [None, None]
    assert (without / "cases.csv").read_bytes() == (validated / "cases.csv").read_bytes()
    with pytest.raises(UserError, match=r"evaluation.every: must be at least 1 for selection = 'best'"):
        tiny.experiment(sites, evaluation={"every": 0})
