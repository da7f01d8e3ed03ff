"""Sites that take no part: what is judged there, and that it is what the table says."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from sammit.data.sites import discover
from sammit.errors import UserError
from sammit.federation.local import make_workers
from sammit.federation.prepare import prepare
from sammit.methods.state import put
from sammit.predict import evaluate, load_predictor
from sammit.reporting.cases import read_cases
from sammit.runs import RunFolder, read_state
from sammit.vocabulary import Order

LEFT_OUT: dict[str, Any] = {
    "data": {"size": 16, "split": [0.7, 0.3, 0.0]},
    "training": {"rounds": 1},
    "evaluation": {"unseen": ["cedar"]},
}


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The two generated sites and a third with half of another's images."""
    root = tmp_path_factory.mktemp("three")
    tiny.make_sites(root)
    shutil.copytree(root / "aster", root / "cedar")
    for path in sorted(root.glob("cedar/*/*.png")):
        if path.name >= "p02":
            path.unlink()
    return root


@pytest.fixture(scope="module")
def left_out(three: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run of each kind with cedar unseen and no test part at the sources."""
    base = tmp_path_factory.mktemp("left-out")
    methods = ("fedavg", "local_only", "pfedsam", "centralised", "fedper", "ditto")
    return {name: tiny.run(tiny.experiment(three, name, **LEFT_OUT), base / name) for name in methods}


def dice(run: Path, model: str) -> dict[str, float]:
    return {row.case: row.scores["dice"] or 0.0 for row in read_cases(run / "cases.csv") if row.model == model}


@pytest.mark.parametrize(
    ("method", "judged", "rule"),
    [
        ("fedavg", ["global"], "the global model"),
        ("centralised", ["global"], "the global model"),
        ("local_only", ["sources"], "the mean score of the source sites' own models"),
        ("pfedsam", ["global", "experts"], "the shared part only, experts bypassed"),
        ("fedper", ["experts", "sources"], "the shared body with the mean of the sites' heads"),
        ("ditto", ["global"], "the global model"),
    ],
)
def test_each_method_says_what_was_judged(left_out: dict[str, Path], method: str, judged: list[str], rule: str) -> None:
    """The unseen site is tested whole, the sources are not tested, and no mean is made of nothing."""
    summary = json.loads((left_out[method] / "summary.json").read_text())
    entry = summary["unseen"]["cedar"]
    assert entry["rule"].startswith(rule)
    assert entry["reported"] == judged[0]
    assert {name for name, scores in entry["models"].items() if scores} == set(judged)
    assert entry["cases"] == 4
    assert (summary["sites"], summary["mean"]["dice"], summary["worst_site"]) == ({}, None, None)
    parts = json.loads((left_out[method] / "splits.json").read_text())
    assert {name: set(of.values()) for name, of in parts.items()} == {
        "aster": {"train", "val"}, "birch": {"train", "val"}, "cedar": {"test"},
    }  # fmt: skip
    validated = tiny.rows(left_out[method])[-1]["validation"]
    assert "cedar" not in validated and validated


def test_local_only_is_the_mean_score_of_the_source_models(left_out: dict[str, Path], three: Path) -> None:
    """As scoring each source's saved model on the unseen site, one after another, finds."""
    run = left_out["local_only"]
    each = [{row["case"]: row["dice"] for row in evaluate(run, three / "cedar", site)} for site in ("aster", "birch")]
    expected = {case: (each[0][case] + each[1][case]) / 2 for case in each[0]}
    assert dice(run, "sources") == pytest.approx(expected)
    assert each[0] != each[1]


def test_a_personal_method_reports_the_shared_part_and_the_mean_of_experts(
    left_out: dict[str, Path], three: Path
) -> None:
    """The mean of the experts is a model: the saved personal tensors, averaged by hand."""
    run = left_out["pfedsam"]
    shared = {row["case"]: row["dice"] for row in evaluate(run, three / "cedar")}
    assert dice(run, "global") == pytest.approx(shared)
    first, second = (read_state(run / "models" / "sites" / f"{site}.safetensors")[0] for site in ("aster", "birch"))
    assert any(not torch.equal(first[name], second[name]) for name in first)
    predictor = load_predictor(run, "aster")
    put(predictor.model, {name: (first[name] + second[name]) / 2 for name in first})
    site = discover(RunFolder.open(run).experiment.data)[2].split(0, whole=True)
    for case in site.cases("test"):
        from sammit.learning.inference import segment
        from sammit.learning.metrics import overlap_scores

        loaded = site.load(case)
        found = segment(predictor.model, loaded.image, site.view)
        scores = overlap_scores(found[..., 0], loaded.truth[..., 0])
        row = next(r for r in read_cases(run / "cases.csv") if (r.case, r.model) == (case.name, "experts"))
        assert row.scores["dice"] == pytest.approx(scores["dice"])


def test_the_unseen_sites_scores_pick_no_round(left_out: dict[str, Path]) -> None:
    """Validation is the sources' alone."""
    for run in left_out.values():
        for row in tiny.rows(run):
            assert set(row["validation"] or {}) <= {"aster", "birch", "pooled"}


def test_where_nobody_lends_only_the_global_model_is_judged(three: Path, tmp_path: Path) -> None:
    """Across hospitals no site's own model reaches another."""
    prepared = prepare(tiny.experiment(three, "local_only", **LEFT_OUT))
    folder = RunFolder.create(tmp_path / "run", prepared.experiment)
    worker = make_workers(folder, prepared)["cedar"]
    worker.lent = None
    with pytest.raises(UserError, match="no model for it where nobody lends theirs"):
        worker.handle(Order("score", "cedar", 0, {}, part="test"))


def test_every_site_is_tested_somewhere(three: Path) -> None:
    """Without an unseen site a test share of nothing leaves nothing to report."""
    with pytest.raises(UserError, match=r"data\.split: must be above 0 for test"):
        tiny.experiment(three, data={"split": [0.7, 0.3, 0.0]})


def test_one_example_is_the_same_case_for_every_method(left_out: dict[str, Path]) -> None:
    """So that pictures of all methods can stand side by side."""
    import numpy as np

    shown = {str(np.load(run / "pictures" / "cedar" / "example.npz")["case"]) for run in left_out.values()}
    assert len(shown) == 1
