"""Every rule through the real engine: what travels, what is scored, what a run leaves, and going on after a stop."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from federation.test_resume import differences, stopped
from methods.aggregators.pairs import MEANS as RULES
from sammit.federation.estimate import estimate, message_bytes
from sammit.federation.prepare import prepare
from sammit.methods.aggregators.factors import is_down, is_rest, is_up
from sammit.predict import load_predictor
from sammit.reporting.html import write_report
from sammit.runs import read_state

OPTIONS: dict[str, dict[str, Any]] = {"flexlora": {"flexlora": {"ranks": {"birch": 1}}}}


def table(sites: Path, rule: str, **training: Any) -> dict[str, Any]:
    """FedAvg with low-rank factors alone under a rule; "birch" has rank 1 of 4 under FlexLoRA."""
    options = {"batch_size": 1, "local_steps": 2, **training}
    scores = {"every": 2, "selection": "last"}
    tables = tiny.table(sites, data={"size": 16}, model={"adapter": ["lora"]}, training=options, evaluation=scores)
    tables["method"] |= {"aggregator": rule, **OPTIONS.get(rule, {})}
    return tables


def experiment(sites: Path, rule: str, **training: Any) -> Any:
    from sammit.recipe import experiment_from

    return experiment_from(table(sites, rule, **training))


@pytest.fixture(scope="module")
def made(sites: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A finished run of every rule; no test may change them."""
    base = tmp_path_factory.mktemp("rules")
    return {rule: tiny.run(experiment(sites, rule), base / rule) for rule in RULES}


def test_every_round_tells_the_error_of_merging_pairs(made: dict[str, Path]) -> None:
    """Where pairs travel: large under the plain mean, nothing under the exact rule."""
    told = {rule: [row["server"] for row in tiny.rows(run)] for rule, run in made.items()}
    assert all(row["lora_error"] > 1e-3 for row in told["naive"])
    assert all(row["lora_error"] < 1e-6 < row["lora_residual"] for row in told["fedex_lora"])
    assert all(row["lora_error"] < row["lora_error.birch"] < 1 for row in told["flexlora"])
    assert told["ffa_lora"] == told["fedsa_lora"] == [{}, {}]


def test_the_report_tells_it_too(tmp_path: Path, made: dict[str, Path]) -> None:
    """In words, beside what else a reader must know of the rule."""
    page = tmp_path / "report.html"
    write_report([made[rule] for rule in ("naive", "fedex_lora", "flexlora", "fedsa_lora")], page)
    for sentence in (
        "The merged low-rank update missed the weighted mean",
        "Low-rank factors were merged exactly",
        "Sites trained at ranks of their own (birch 1)",
        "Low-rank factors B stayed at their sites",
    ):
        assert sentence in page.read_text()


def test_bytes_are_those_of_what_is_declared(sites: Path, made: dict[str, Path]) -> None:
    """To the byte but for names and numbers in the messages' heads, and a dry run foretells them."""
    blocks, width, rank = 4, 96, 4  # of sam-tiny
    factor = blocks * 2 * rank * width * 4
    first = {rule: tiny.rows(run)[0] for rule, run in made.items()}
    whole = first["naive"]["up_bytes"]["aster"]

    def near(rule: str, way: str, site: str, expected: int) -> bool:
        return abs(first[rule][f"{way}_bytes"][site] - expected) < 8000  # names of tensors that are not there

    for site in tiny.LOOKS:
        assert near("ffa_lora", "up", site, whole - factor) and near("fedsa_lora", "up", site, whole - factor)
        assert near("fedex_lora", "up", site, whole)
        assert near("fedex_lora", "down", site, whole + blocks * 2 * width * width * 4)
    assert near("flexlora", "up", "aster", whole) and near("flexlora", "down", "birch", whole - 2 * factor * 3 // 4)
    for rule in RULES:
        prepared = prepare(experiment(sites, rule))
        for site in tiny.LOOKS:
            foretold = message_bytes(prepared, site)
            real = (first[rule]["up_bytes"][site], first[rule]["down_bytes"][site])
            assert all(abs(one - other) < 100 for one, other in zip(foretold, real, strict=True)), rule
    assert estimate(prepared)["low-rank factors"] == f"merged by {rule}"


def test_what_leaves_is_what_the_rule_says(made: dict[str, Path]) -> None:
    """The names in the global model's file, and whose own models there are."""
    kinds = {}
    for rule, run in made.items():
        names = read_state(run / "models" / "global.safetensors")[0]
        kinds[rule] = tuple(any(map(is_kind, names)) for is_kind in (is_down, is_up, is_rest))
        summary = json.loads((run / "summary.json").read_text())
        reported = {entry["reported"] for entry in summary["sites"].values()}
        own = {path.stem for path in (run / "models" / "sites").glob("*")}
        expected = ("personal", set(tiny.LOOKS)) if rule == "fedsa_lora" else ("global", set())
        assert (reported, own) == ({expected[0]}, expected[1])
    both = (True, True, False)
    assert kinds == {
        "naive": both,
        "flexlora": both,
        "fedex_lora": (True, True, True),
        "ffa_lora": (False, True, False),
        "fedsa_lora": (True, False, False),
    }


def test_a_site_s_own_model_under_fedsa_is_scored_and_loaded(made: dict[str, Path]) -> None:
    """Global and personal models differ; without B the global one is as if there were no low-rank adapter."""
    pixels = torch.rand(1, 3, 16, 16)
    models = {site: load_predictor(made["fedsa_lora"], site) for site in ("", *tiny.LOOKS)}
    assert [model.which for model in models.values()] == ["global", "personal", "personal"]
    with torch.inference_mode():
        logits = [model.model(pixels) for model in models.values()]
        for block in models[""].model.vision_encoder.blocks:
            block.adapters["lora"].active = False
        bare = models[""].model(pixels)
    assert torch.equal(bare, logits[0])
    assert all(not torch.equal(one, other) for place, one in enumerate(logits) for other in logits[:place])
    row = tiny.rows(made["fedsa_lora"])[-1]
    assert all(set(dice) == {"global", "personal"} for dice in row["validation"].values())


def test_a_stranger_under_fedsa_is_judged_with_the_mean_of_b(tmp_path: Path, sites: Path) -> None:
    what = experiment(sites, "fedsa_lora", rounds=1)
    what = replace(what, evaluation=replace(what.evaluation, unseen=("birch",)))
    entry = json.loads((tiny.run(what, tmp_path / "run") / "summary.json").read_text())["unseen"]["birch"]
    assert entry["reported"] == "experts" and set(entry["models"]) >= {"global", "experts"}
    assert entry["rule"].startswith("the shared part with the mean of what the sites keep; beside it the global model")


def test_what_pairs_cannot_hold_is_in_the_model_that_is_used(made: dict[str, Path]) -> None:
    """It is not zero, it is what the server holds, and the answer depends on it."""
    predictor, pixels = load_predictor(made["fedex_lora"]), torch.rand(1, 3, 16, 16)
    state = read_state(made["fedex_lora"] / "models" / "global.safetensors")[0]
    with torch.inference_mode():
        before = predictor.model(pixels)
        for name, parameter in predictor.model.named_parameters():
            if is_rest(name):
                assert bool(parameter.any()) and torch.equal(parameter, state[name])
                parameter.zero_()
        assert not torch.equal(before, predictor.model(pixels))


@pytest.mark.parametrize("rule", ["fedex_lora", pytest.param("fedsa_lora", marks=pytest.mark.slow)])
def test_a_run_that_stopped_goes_on(tmp_path: Path, sites: Path, made: dict[str, Path], rule: str) -> None:
    """With the recipe as it was, which does not name what the rule decides; bit for bit as if it had not stopped."""
    out = stopped(tmp_path / "run", experiment(sites, rule))
    tiny.run(experiment(sites, rule), out, resume=True)
    assert tiny.contents(out) == tiny.contents(made[rule])


@pytest.mark.slow
@pytest.mark.parametrize("rule", RULES)
def test_killed_before_every_third_rename(tmp_path: Path, sites: Path, rule: str) -> None:
    """Moments kept, three rounds; whatever a rule has at the server or drops at a site."""
    assert differences(tmp_path, table(sites, rule, optimiser_state="keep", rounds=3), ["before"], 3) == []
