"""A new site joins a finished run: what is trained, what is compared, what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import torch

import tiny
from sammit.config import Experiment
from sammit.data.phantom import Look, draw_eye, write_png
from sammit.errors import UserError
from sammit.federation.join import Start, in_turn, join
from sammit.federation.newcomer import MOST_STEPS, open_newcomer
from sammit.federation.scoring import SiteScores
from sammit.learning.evaluate import Scorer
from sammit.methods import base
from sammit.methods.base import Work
from sammit.methods.state import put
from sammit.predict import load_predictor
from sammit.recipe import experiment_from
from sammit.reporting.cases import OVERLAP
from sammit.reporting.columns import open_table
from sammit.reporting.joining import Joined
from sammit.runs import read_state
from sammit.vocabulary import Order

CEDAR = Look(6, 40, 0.5, (1.0, 0.9, 0.8), 0.3, 1, 0.05, 0.7, 1.0)
STEPS = ["training.local_steps=2"]


def quick(root: Path, method: str, **tables: dict[str, Any]) -> Experiment:
    """A run of the two other sites, as small as can be."""
    known: dict[str, dict[str, Any]] = {
        "data": {"size": 16, "sites": ["aster", "birch"]},
        "training": {"rounds": 2, "local_steps": 1},
    }
    return tiny.experiment(
        root, method, **{key: {**known.get(key, {}), **tables.get(key, {})} for key in {**known, **tables}}
    )


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The two generated sites, and a third with two test patients."""
    root = tmp_path_factory.mktemp("three")
    tiny.make_sites(root)
    for patient, image in product(range(CEDAR.patients), range(2)):
        pixels, labels = draw_eye(CEDAR, (0, "cedar", patient, image))
        write_png(root / "cedar" / "images" / f"p{patient:02d}-{image}.png", pixels)
        write_png(root / "cedar" / "masks" / f"p{patient:02d}-{image}.png", labels)
    return root


@pytest.fixture(scope="module")
def source(three: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of pFedSAM in which cedar took no part."""
    return tiny.run(quick(three, "pfedsam"), tmp_path_factory.mktemp("source") / "run")


@pytest.fixture(scope="module")
def joined(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Cedar joins it."""
    before = tiny.contents(source)
    told: list[Joined] = []
    out = join(open_newcomer(source, "cedar", None, STEPS), tmp_path_factory.mktemp("join") / "out", told.append)
    assert tiny.contents(source) == before  # the run is only read
    assert [one.label for one in told] == ["global", "experts", "cases-1", "cases-5", "cases-all"]
    return out


def rows_of(out: Path, model: str) -> list[dict[str, str]]:
    return [row for row in open_table(out / "cases.csv", OVERLAP, OVERLAP) if row["model"] == model]


def test_the_folder_says_what_was_compared(joined: Path) -> None:
    """Means over the rows of the test patients, the site's own split, which run it was; no draft beside it."""
    summary = json.loads((joined / "join.json").read_text())
    assert (summary["site"], summary["run"], summary["method"], summary["steps"]) == ("cedar", "run", "pfedsam", 2)
    assert summary["start"] == "untrained" and summary["sources"] == ["aster", "birch"]
    parts = json.loads((joined / "splits.json").read_text())["cedar"]
    tested = {case for case, part in parts.items() if part == "test"}
    for entry in summary["models"]:
        rows = rows_of(joined, entry["model"])
        assert {row["case"] for row in rows} == tested
        assert entry["dice"]["mean"] == pytest.approx(fmean(float(row["dice"]) for row in rows))
    assert summary["test"] == {"cases": 4, "patients": 2}
    assert [(e["cases"], e["patients"]) for e in summary["models"]] == [(0, 0), (0, 0), (1, 1), (5, 3), (6, 3)]
    assert all(entry["steps"] == 2 for entry in summary["models"][2:])
    environment = json.loads((joined / "environment.json").read_text())
    assert environment["run"]["name"] == "run" and set(environment["data"]) == {"cedar"}
    assert [path.name for path in joined.parent.iterdir()] == ["out"]


def scored(model: torch.nn.Module, newcomer: Any) -> list[float]:
    """Dice of every test case and structure under a model."""
    scores = SiteScores(newcomer.site, Scorer(newcomer.experiment.evaluation, newcomer.site.view))
    scores.add("x", model, "test")
    return [row["dice"] for row in scores.rows]


def test_its_models_are_those_that_predict(source: Path, joined: Path) -> None:
    """The shared part is the run's, bit for bit; each number of cases has a model of its own that gives its scores."""
    newcomer = open_newcomer(source, "cedar", None, STEPS)
    shared, facts = read_state(source / "models" / "global.safetensors")
    ours, own_facts = read_state(joined / "models" / "global.safetensors")
    assert own_facts == facts and shared.keys() == ours.keys()
    assert all(torch.equal(ours[name], shared[name]) for name in shared)
    known = {"global": (source, ""), "cases-all": (joined, "cedar"), "cases-1": (joined, "cedar-cases-1")}
    for label, (folder, site) in known.items():
        predictor = load_predictor(folder, site)
        assert scored(predictor.model, newcomer) == [float(row["dice"]) for row in rows_of(joined, label)]
    own = read_state(joined / "models" / "sites" / "cedar.safetensors")[0]
    assert set(own) == set(newcomer.method.personal_names(newcomer.backbone.live))
    assert not set(own) & set(shared)
    with pytest.raises(UserError, match="the run has no such site"):
        load_predictor(joined, "aster")


def test_a_start_from_the_mean_is_the_mean(source: Path, tmp_path: Path) -> None:
    """With a rate that moves nothing the own part is its start, and scores so."""
    still = [*STEPS, "training.lr=1e-30", "training.weight_decay=0"]
    newcomer = open_newcomer(source, "cedar", None, still)
    starts: tuple[Start, Start] = ("mean", "untrained")
    for start in starts:
        join(newcomer, tmp_path / start, lambda one: None, [], start)
        own = read_state(tmp_path / start / "models" / "sites" / "cedar.safetensors")[0]
        built = {name: newcomer.backbone.start[name] for name in own}
        states = [newcomer.experts[site] for site in ("aster", "birch")]
        mean = {name: (states[0][name].double() + states[1][name].double()).div(2).float() for name in own}
        wanted = mean if start == "mean" else built
        assert all(torch.allclose(own[name], wanted[name], rtol=0, atol=1e-20) for name in own)
    models = json.loads((tmp_path / "mean" / "join.json").read_text())["models"]
    assert [entry["model"] for entry in models] == ["global", "experts", "cases-all"]
    assert models[2]["dice"] == models[1]["dice"]


def test_a_join_is_a_function_of_its_settings(source: Path, joined: Path, tmp_path: Path) -> None:
    """The same again, byte for byte."""
    join(open_newcomer(source, "cedar", None, STEPS), tmp_path / "again", lambda one: None)
    assert tiny.contents(tmp_path / "again") == tiny.contents(joined)


def test_any_first_cases_are_among_the_first_few_more(source: Path) -> None:
    """One of each patient before a second of any; the order of files plays no role, the seed does."""
    site = open_newcomer(source, "cedar").site
    order = in_turn(site, 0)
    assert sorted(case.name for case in order) == [case.name for case in site.cases("train")]
    assert len({case.patient for case in order[:3]}) == 3 == len({case.patient for case in order[3:]})
    assert [case.patient for case in order[:3]] == [case.patient for case in order[3:]]
    assert len({tuple(case.name for case in in_turn(site, seed)) for seed in range(8)}) > 1
    few = site.only(case.name for case in order[:2])
    assert {case.name for case in few.cases("train")} == {case.name for case in order[:2]}
    assert few.cases("test") == site.cases("test") and few.samples("train") == 2 and site.samples("train") == 6


def test_steps_are_the_runs_or_those_asked_for(source: Path) -> None:
    """Rounds times the steps of a round, to a limit."""
    for settings, steps in (([], 2), (["training.rounds=100000"], MOST_STEPS), (["training.local_steps=700"], 700)):
        assert open_newcomer(source, "cedar", None, settings).experiment.training.local_steps == steps


class Kept(base.Method):
    """The experts stay, everything else travels; nothing of pFedSAM's own."""

    def shares(self, name: str) -> bool:
        return "mixture" not in name


def test_pfedsams_stage_is_the_plain_one_and_what_the_shared_part_teaches(source: Path) -> None:
    """Without its own terms it is the default, bit for bit; with them it is not; the shared part never moves."""
    newcomer = open_newcomer(source, "cedar", None, STEPS)
    model, backbone, method = newcomer.backbone.model, newcomer.backbone, newcomer.method

    def moved(how: base.Method) -> dict[str, torch.Tensor]:
        put(model, {**backbone.start, **newcomer.shared})
        method.use(model, "personal")
        order = Order("finish", "cedar", 1, newcomer.shared)
        live = how.trained_names(backbone.live)
        how.join(Work(order, model, live, newcomer.site, {}, newcomer.experiment.training, 0))
        after = dict(model.named_parameters())
        assert all(torch.equal(after[name], tensor) for name, tensor in newcomer.shared.items())
        return {name: after[name].detach().clone() for name in method.personal_names(live)}

    plain = moved(Kept())
    bare = type(method)(replace(method.options, kd_direction="none", balance_weight=0.0))
    assert all(torch.equal(plain[name], tensor) for name, tensor in moved(bare).items())
    assert any(not torch.equal(plain[name], tensor) for name, tensor in moved(method).items())


def test_nothing_is_left_where_training_fails(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a folder nor a draft."""
    newcomer = open_newcomer(source, "cedar", None, STEPS)

    def broken(path: Path, *rest: Any) -> None:
        raise OSError("the disk is on fire")

    monkeypatch.setattr("sammit.federation.join.write_state", broken)
    with pytest.raises(OSError, match="on fire"):
        join(newcomer, tmp_path / "out", lambda one: None, [])
    assert list(tmp_path.iterdir()) == []


REFUSED: dict[str, tuple[str, Sequence[str]]] = {
    "--site aster: took part in": ("aster", []),
    "--site ceder: there is no site 'ceder' in": ("ceder", []),
    "--set model.name=unet: what the run trained stays as it is": ("cedar", ["model.name=unet"]),
    "--set seed=3: what the run trained stays": ("cedar", ["seed=3"]),
    "--set data.size=32: what the run trained stays": ("cedar", ["data.size=32"]),
    "unknown key 'training.round': did you mean 'rounds'?": ("cedar", ["training.round=3"]),
    "has the structures disc, the run": ("cedar", ["data.structures.disc=[1, 2]"]),
}


@pytest.mark.parametrize("message", REFUSED)
def test_a_site_that_cannot_join(source: Path, message: str) -> None:
    """One line with the mend."""
    name, settings = REFUSED[message]
    with pytest.raises(UserError) as raised:
        open_newcomer(source, name, None, settings)
    assert message in str(raised.value) and "\n" not in str(raised.value)


def test_runs_that_nobody_can_join(three: Path, source: Path, joined: Path, tmp_path: Path) -> None:
    """Unfinished, without anything that stays at a site, without its sites' own tensors, with other base weights."""
    half = Path(shutil.copytree(source, tmp_path / "half"))
    (half / "summary.json").unlink()
    with pytest.raises(UserError, match="the run is not finished; go on with it: sammit run RECIPE --out"):
        open_newcomer(half, "cedar")
    with pytest.raises(UserError, match="is no run folder"):
        open_newcomer(tmp_path, "cedar")
    shared = tiny.run(quick(three, "fedavg", training={"rounds": 1}), tmp_path / "shared")
    newcomer = open_newcomer(shared, "cedar", None, STEPS)
    with pytest.raises(UserError, match=r"shared: the method keeps no part of the model at a site"):
        join(newcomer, tmp_path / "out", lambda one: None)
    with pytest.raises(UserError, match=r"--start mean: .* has no personal tensors of its sites"):
        join(newcomer, tmp_path / "out", lambda one: None, start="mean")
    with pytest.raises(UserError, match="--cases 7: 'cedar' has 6 labelled training cases; choose from 1 to 6"):
        join(open_newcomer(source, "cedar"), tmp_path / "out", lambda one: None, [1, 7])
    with pytest.raises(UserError, match="is not empty; choose another --out"):
        join(newcomer, joined, lambda one: None)
    assert not (tmp_path / "out").exists()
    config = half / "config.toml"
    shutil.copy(source / "summary.json", half)
    config.write_text(config.read_text().replace('weights = "pretrained"', 'weights = "random"'))
    with pytest.raises(UserError, match="was trained from other base weights"):
        open_newcomer(half, "cedar")


def test_a_site_that_was_unseen_may_join_with_test_patients_of_its_own(three: Path, tmp_path: Path) -> None:
    """A method that shares nothing too: the site trains alone; nobody else need have been tested."""
    tables: dict[str, Any] = {
        "data": {"sites": [], "split": [0.7, 0.3, 0.0]},
        "evaluation": {"unseen": ["cedar"]},
        "training": {"rounds": 1},
    }
    run = tiny.run(quick(three, "local_only", **tables), tmp_path / "run")
    newcomer = open_newcomer(run, "cedar", three, STEPS)
    assert newcomer.experiment == experiment_from(json.loads(json.dumps(asdict(newcomer.experiment))))
    assert len(newcomer.site.cases("test")) == 4 and newcomer.shared == {}
    out = join(newcomer, tmp_path / "out", lambda one: None, [2])
    labels = [entry["model"] for entry in json.loads((out / "join.json").read_text())["models"]]
    assert labels == ["global", "experts", "cases-2", "cases-all"]
    with pytest.raises(UserError, match=r"data\.split: must be above 0 for test"):
        open_newcomer(run, "cedar", three, ["data.split=[0.7, 0.3, 0.0]"])


@pytest.mark.slow
@pytest.mark.parametrize("method", tiny.METHODS)
def test_every_method_lets_a_site_join_or_says_why_not(three: Path, tmp_path: Path, method: str) -> None:
    """Where it joins, nothing that is shared has moved and its own part has."""
    run = tiny.run(quick(three, method, training={"rounds": 1, "local_steps": 2}), tmp_path / "run")
    newcomer = open_newcomer(run, "cedar", None, STEPS)
    try:
        out = join(newcomer, tmp_path / "out", lambda one: None, [1])
    except UserError as error:
        assert "keeps no part of the model at a site" in str(error)
        assert not newcomer.method.personal_names(newcomer.backbone.live)
        return
    own = read_state(out / "models" / "sites" / "cedar.safetensors")[0]
    assert any(not torch.equal(tensor, newcomer.backbone.start[name]) for name, tensor in own.items())
