"""Whose model works where: that each number is the saved model's on those patients, and who gets none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import tiny
from federation.hand import folder_of
from sammit.federation.local import make_workers
from sammit.federation.prepare import prepare
from sammit.predict import evaluate
from sammit.reporting.cases import read_cases
from sammit.reporting.cross import CrossScore, read_cross
from sammit.reporting.html import write_report
from sammit.runs import RunFolder, read_facts
from sammit.vocabulary import Order

ASKED: dict[str, Any] = {"data": {"size": 16}, "training": {"rounds": 1}, "evaluation": {"cross_site": True}}


def summary_of(run: Path) -> dict[str, Any]:
    return dict(json.loads((run / "summary.json").read_text()))


@pytest.fixture(scope="module")
def crossed(sites: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Runs that ask for the matrix, under a method with both kinds of models, one without a global one and one with no
    other; and the first of them without asking."""
    base = tmp_path_factory.mktemp("crossed")
    asked = {name: tiny.experiment(sites, name, **ASKED) for name in ("pfedsam", "local_only", "fedavg")}
    plain = tiny.experiment(sites, "pfedsam", **{**ASKED, "evaluation": {}})
    return {name: tiny.run(what, base / name) for name, what in {**asked, "plain": plain}.items()}


@pytest.mark.parametrize("method", ["pfedsam", "local_only"])
def test_every_number_is_the_saved_models_on_those_patients(crossed: dict[str, Path], sites: Path, method: str) -> None:
    run = crossed[method]
    rows = read_cross(run / "cross_site.csv")
    assert {(row.model_of, row.site) for row in rows} == {(a, b) for a in tiny.LOOKS for b in tiny.LOOKS}
    tested = {row.case for row in rows}
    for home in tiny.LOOKS:
        for place in tiny.LOOKS:
            found = {(r.case, r.structure): r.dice for r in rows if (r.model_of, r.site) == (home, place)}
            scored = evaluate(run, sites / place, home)
            assert found == {
                (row["case"], row["structure"]): pytest.approx(row["dice"]) for row in scored if row["case"] in tested
                and (row["case"], row["structure"]) in found
            }  # fmt: skip
    cross = summary_of(run)["cross"]
    away = [row.dice for row in rows if (row.model_of, row.site) == ("aster", "birch")]
    assert cross["aster"]["birch"] == pytest.approx(sum(away) / len(away))


def test_at_home_nothing_is_scored_twice(crossed: dict[str, Path]) -> None:
    """The diagonal is the personal model's own rows, to the last digit; the models of two sites differ."""
    run = crossed["pfedsam"]
    rows = read_cross(run / "cross_site.csv")
    home = [row for row in rows if row.model_of == row.site]
    own = [row for row in read_cases(run / "cases.csv") if row.model == "personal"]
    assert home == [CrossScore(r.site, r.case, r.patient, r.structure, r.site, r.scores["dice"]) for r in own]
    summary = summary_of(run)
    for site in tiny.LOOKS:
        assert summary["cross"][site][site] == pytest.approx(summary["sites"][site]["dice"])
    birch = [[row.dice for row in rows if (row.site, row.model_of) == ("birch", model)] for model in tiny.LOOKS]
    assert birch[0] != birch[1]


def test_rows_lie_in_the_sites_own_folder_too(crossed: dict[str, Path]) -> None:
    run = crossed["pfedsam"]
    own = read_cross(folder_of(run, "birch") / "cross.csv")
    assert {row.site for row in own} == {"birch"} and {row.model_of for row in own} == set(tiny.LOOKS)


def test_without_personal_models_it_is_passed_over_and_said(crossed: dict[str, Path], tmp_path: Path) -> None:
    run = crossed["fedavg"]
    assert not (run / "cross_site.csv").exists() and summary_of(run)["cross"] is None
    assert not (folder_of(run, "birch") / "cross.csv").exists()
    write_report([run], tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    assert "Under fedavg no site has a model of its own" in text and "own model elsewhere" not in text


def test_validation_patients_are_not_visited(sites: Path, tmp_path: Path) -> None:
    """A search chooses by Dice at home, and is told so."""
    table = {**ASKED, "evaluation": {"cross_site": True, "scored": "val"}}
    run = tiny.run(tiny.experiment(sites, "pfedsam", **table), tmp_path / "run")
    assert not (run / "cross_site.csv").exists() and summary_of(run)["cross"] is None
    notes = json.loads((run / "environment.json").read_text())["notes"]
    assert "A cross-site matrix is of test patients: evaluation.cross_site was passed over." in notes


def test_nobody_asks_by_default_and_asking_changes_no_other_number(crossed: dict[str, Path]) -> None:
    """Nor any model or router's use."""
    plain, asked = (tiny.contents(crossed[name]) for name in ("plain", "pfedsam"))
    assert "cross_site.csv" not in plain and plain["summary.json"]["cross"] is None
    assert not any("cross-site" in note for note in json.loads(plain["environment.json"])["notes"])
    for name in ("cases.csv", "router.json", "models/global.safetensors", "models/sites/birch.safetensors"):
        assert plain[name] == asked[name]
    assert {**plain["summary.json"], "cross": asked["summary.json"]["cross"]} == asked["summary.json"]


def test_an_unseen_site_is_a_column_without_a_row(sites: Path, tmp_path: Path) -> None:
    table = {**ASKED, "evaluation": {"cross_site": True, "unseen": ["birch"]}}
    cross = summary_of(tiny.run(tiny.experiment(sites, "pfedsam", **table), tmp_path / "run"))["cross"]
    assert {one: set(places) for one, places in cross.items()} == {"aster": {"aster", "birch"}}


def test_across_hospitals_there_is_none(crossed: dict[str, Path], sites: Path, tmp_path: Path) -> None:
    """Where nobody lends, a site scores its own models alone, whatever the recipe asks."""
    prepared = prepare(tiny.experiment(sites, "pfedsam", **ASKED))
    worker = make_workers(RunFolder.create(tmp_path / "run", prepared.experiment), prepared)["birch"]
    worker.lent = None
    worker.memory.finalise({}, 0, 0)
    shared = {name: prepared.backbone.start[name] for name in prepared.shared}
    worker.handle(Order("score", "birch", 0, shared, part="test"))
    folder = folder_of(tmp_path / "run", "birch")
    assert (folder / "cases.csv").is_file() and not (folder / "cross.csv").exists()


def test_the_report_shows_the_matrix(crossed: dict[str, Path], tmp_path: Path) -> None:
    write_report([crossed["pfedsam"]], tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    assert "Each site's own model elsewhere" in text and "at home and" in text and "shared model" in text


def test_steps_of_every_stage_are_counted(crossed: dict[str, Path]) -> None:
    """pFedSAM's last local stage takes half of a round's two steps once more; FedAvg has none."""
    assert summary_of(crossed["fedavg"])["steps"] == {"per_site": 2.0, "last_stage": 0.0}
    assert summary_of(crossed["pfedsam"])["steps"] == {"per_site": 3.0, "last_stage": 1.0}
    assert read_facts(folder_of(crossed["pfedsam"], "aster") / "final.safetensors")["steps"] == 1
