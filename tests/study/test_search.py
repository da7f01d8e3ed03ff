"""Settings are chosen on validation patients: equal budgets, what is chosen, and how a study takes it up."""

from __future__ import annotations

import json
import shutil
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from sammit.errors import UserError
from sammit.federation.prepare import prepare
from sammit.study import run as running
from sammit.study.file import Study, choose, read_study
from sammit.study.plan import Plan, make_plan
from sammit.study.run import run_study
from sammit.study.search import FILE, as_search, take_up, write_chosen
from sammit.study.work import work_of
from study.small import TABLE, Told, written

LR: dict[str, Any] = {"training": {"lr": 0.002}}
SEARCH: dict[str, Any] = {
    "unseen": "none",
    "search": {"budget": 2, "training": {"batch_size": 1}},
    "methods": {name: {**table, "search": [LR]} for name, table in TABLE["methods"].items()},
    "chosen": "small-chosen.toml",
}


def read(folder: Path, *settings: str, **keys: Any) -> Study:
    """The small study with a search of two candidates."""
    return read_study(written(folder / "study.toml", **{**SEARCH, **keys}), settings)


def finish(plan: Plan, dice: dict[str, float]) -> None:
    """Give every cell a score, by the name of its row; cells without one stay undone."""
    for cell in plan.cells:
        if cell.method in dice:
            folder = cell.folder(plan.out)
            folder.mkdir(parents=True, exist_ok=True)
            summary = {
                "method": "m",
                "sites": {},
                "scored": "val",
                "mean": {"dice": dice[cell.method] + cell.seed / 100},
            }
            (folder / "summary.json").write_text(json.dumps(summary))


def chosen(folder: Path, sites: Path, **keys: Any) -> Study:
    """A study beside what its search chose: the second candidate of `fed`, the first of `cen`."""
    study = read(folder, **keys)
    plan = make_plan(as_search(study), sites, folder / "search")
    finish(plan, {"fed.1": 0.5, "fed.2": 0.6, "cen.1": 0.7, "cen.2": 0.7})
    write_chosen(plan)
    shutil.copy(plan.out / FILE, folder / "small-chosen.toml")
    return study


def test_cells_of_a_search(tmp_path: Path, sites: Path) -> None:
    """Every candidate of every method; the search's tables over all; validation patients, the search's seeds."""
    study = as_search(read(tmp_path, search={**SEARCH["search"], "seeds": [3, 4]}, common=TABLE["common"] | SPLIT))
    cells = make_plan(study, sites, tmp_path / "out").cells
    assert [cell.method for cell in cells] == ["fed.1", "fed.2", "cen.1", "cen.2"] * 2
    assert [cell.seed for cell in cells] == [3] * 4 + [4] * 4
    assert {cell.experiment.training.batch_size for cell in cells} == {1}
    assert {cell.experiment.evaluation.scored for cell in cells} == {"val"}
    assert [cell.experiment.training.lr for cell in cells[:2]] == [1e-3, 2e-3]
    assert (study.name, study.kind) == ("small-search", "search")
    command = work_of(study).command(Path("r.toml"), Path("out"))
    assert command[-1] == "--no-report"


SPLIT: dict[str, Any] = {"data": {**TABLE["common"]["data"], "split_seed": 0}}


def test_the_best_mean_is_chosen_and_the_first_of_equals(tmp_path: Path, sites: Path) -> None:
    """Mean over seeds, every candidate's score in the file, tables as the study has them."""
    study = read(tmp_path, search={"budget": 2, "seeds": [0, 4]}, common=TABLE["common"] | SPLIT)
    plan = make_plan(as_search(study), sites, tmp_path / "out")
    finish(plan, {"fed.1": 0.5, "fed.2": 0.6, "cen.1": 0.7, "cen.2": 0.7})
    write_chosen(plan)
    text = (plan.out / FILE).read_text()
    found = tomllib.loads(text)
    assert (found["budget"], found["seeds"], found["set"], found["search"]) == (2, [0, 4], [], study.mark)
    assert found["chosen"][sites.name] == {
        "fed": {"all": {"candidate": 2, "dice": [0.52, 0.62], "tables": LR}},
        "cen": {"all": {"candidate": 1, "dice": [0.72, 0.72]}},
    }
    assert 'chosen = "small-chosen.toml"' in text and "no test patient" in text


def test_nothing_is_chosen_while_candidates_are_missing(tmp_path: Path, sites: Path) -> None:
    """What an earlier start chose goes too."""
    plan = make_plan(as_search(read(tmp_path)), sites, tmp_path / "out")
    finish(plan, {"fed.1": 0.5, "fed.2": 0.6, "cen.1": 0.7})
    (plan.out / FILE).write_text("of old")
    write_chosen(plan)
    assert not (plan.out / FILE).exists()


def test_each_unseen_site_is_searched_without_it(tmp_path: Path, sites: Path) -> None:
    """A choice of its own for each, to which the site itself gave nothing."""
    study = read(tmp_path, unseen="each")
    plan = make_plan(as_search(study), sites, tmp_path / "out")
    assert [cell.experiment.evaluation.unseen for cell in plan.cells[::4]] == [("aster",), ("birch",)]
    finish(plan, dict.fromkeys(("fed.1", "fed.2", "cen.1", "cen.2"), 0.5))
    write_chosen(plan)
    shutil.copy(plan.out / FILE, tmp_path / "small-chosen.toml")
    assert len(make_plan(take_up(study), sites, tmp_path / "test").cells) == 4


def test_a_study_takes_up_what_was_chosen(tmp_path: Path, sites: Path) -> None:
    """The candidate's tables go over the method's; the search's own do not; test patients are scored."""
    study = chosen(tmp_path, sites)
    cells = make_plan(take_up(study), sites, tmp_path / "test").cells
    assert {cell.method: cell.experiment.training.lr for cell in cells} == {"fed": 2e-3, "cen": 1e-3}
    assert {cell.experiment.training.batch_size for cell in cells} == {2}
    assert {cell.experiment.evaluation.scored for cell in cells} == {"test"}
    some = choose(study, ["cen"])
    assert [cell.method for cell in make_plan(take_up(some), sites, tmp_path / "test").cells] == ["cen"]


def changed(path: Path, **keys: Any) -> None:
    """The chosen file with the choice of `fed` changed."""
    table = tomllib.loads(path.read_text())
    (dataset,) = table["chosen"]
    table["chosen"][dataset]["fed"]["all"].update(keys)
    path.write_text(tomli_w.dumps(table))


STALE: dict[str, dict[str, Any]] = {
    "candidate": {
        "methods": {**SEARCH["methods"], "fed": {**SEARCH["methods"]["fed"], "search": [{"training": {"lr": 1.0}}]}}
    },
    "search": {"search": {"budget": 2}},
    "common": {"common": {**TABLE["common"], **SPLIT}},
}


@pytest.mark.parametrize("what", STALE)
def test_what_was_chosen_of_other_candidates_is_refused(tmp_path: Path, sites: Path, what: str) -> None:
    """One line with the mend; a title or a setting of the command line makes nothing stale."""
    chosen(tmp_path, sites)
    take_up(read(tmp_path, "training.clip=0.5", title="Another"))
    with pytest.raises(
        UserError, match=r"small-chosen\.toml: was chosen before .* changed; run sammit study .* --search"
    ):
        take_up(read(tmp_path, **STALE[what]))


def test_a_study_that_was_not_searched_is_refused(tmp_path: Path, sites: Path) -> None:
    """Without the file, without its name, and where it does not say."""
    with pytest.raises(UserError, match=r"small-chosen\.toml: is not there yet; run sammit study .* --search first"):
        take_up(read(tmp_path))
    with pytest.raises(
        UserError, match=r"study\.toml: has a \[search\]; run sammit study .* --search first, then name"
    ):
        take_up(read(tmp_path, chosen=None))
    study, path = chosen(tmp_path, sites), tmp_path / "small-chosen.toml"
    with pytest.raises(UserError, match=rf"chosen\.{sites.name}\.fed\.birch: is missing; search it too"):
        make_plan(take_up(choose(study, unseen=["birch"])), sites, tmp_path / "test")
    changed(path, candidate=1)
    with pytest.raises(UserError, match="its tables are not candidate 1's"):
        make_plan(take_up(study), sites, tmp_path / "test")
    changed(path, candidate=3)
    with pytest.raises(UserError, match="there are candidates 1 to 2, not 3"):
        make_plan(take_up(study), sites, tmp_path / "test")


METHODS = SEARCH["methods"]
WRONG: dict[str, dict[str, Any]] = {
    "methods.fed.search: with the method's own settings 3 candidates, but search.budget = 2": {
        "methods": {**METHODS, "fed": {**METHODS["fed"], "search": [LR, LR]}}
    },
    "methods.cen.search: with the method's own settings 1 candidates, but search.budget = 2": {
        "methods": {**METHODS, "cen": TABLE["methods"]["cen"]}
    },
    "methods.fed.search: data: candidates may differ in model, method, training alone": {
        "methods": {**METHODS, "fed": {**METHODS["fed"], "search": [{"data": {"size": 32}}]}}
    },
    "methods.fed.search: training: must be a table": {
        "methods": {**METHODS, "fed": {**METHODS["fed"], "search": [{"training": 3}]}}
    },
    "methods.fed.search: the study has no [search]": {"search": None, "chosen": None},
    "chosen: there is no [search]": {"search": None, "methods": TABLE["methods"]},
    "search.budget: is missing": {"search": {"seeds": [1]}},
    "search.budget: must be 1 or more": {"search": {"budget": -1}},
    "search.seeds: must name at least one": {"search": {"budget": 2, "seeds": []}},
    "search.seeds: names one twice": {"search": {"budget": 2, "seeds": [1, 1]}},
    "search.evaluation.scored: the search itself": {"search": {"budget": 2, "evaluation": {"scored": "test"}}},
    "unknown key 'search.buget': did you mean 'budget'?": {"search": {"buget": 2}},
    "search: a study of costs": {"kind": "costs"},
    "methods.fed: evaluation.scored: leave it to --search": {"common": {"evaluation": {"scored": "val"}}},
}


@pytest.mark.parametrize("message", WRONG)
def test_searches_that_are_not_right(tmp_path: Path, message: str) -> None:
    """One line that names the file and the method or key."""
    with pytest.raises(UserError) as raised:
        read(tmp_path, **WRONG[message])
    assert message in str(raised.value)
    assert str(tmp_path) in str(raised.value) and "\n" not in str(raised.value)


def test_a_candidate_twice_or_a_patient_on_both_sides_is_refused(tmp_path: Path) -> None:
    """Both would be unfair without a word."""
    same = {**METHODS, "fed": {**METHODS["fed"], "search": [{"training": {"lr": 1e-3}}]}}
    with pytest.raises(UserError, match=r"methods\.fed\.search: candidate 2 is the same as candidate 1"):
        as_search(read(tmp_path, methods=same))
    overruled = {"budget": 2, "training": {"lr": 0.5}}
    with pytest.raises(UserError, match=r"methods\.fed\.search: candidate 2 is the same as candidate 1"):
        as_search(read(tmp_path, search=overruled))
    for use in (as_search, take_up):
        with pytest.raises(UserError, match=r"data\.split_seed: must be 0 or more, one split for all seeds"):
            use(read(tmp_path, seeds=[0, 1]))
    as_search(read(tmp_path, seeds=[0, 1], common={**TABLE["common"], **SPLIT}))
    with pytest.raises(UserError, match=r"has no \[search\]; give it a budget"):
        as_search(read_study(written(tmp_path / "plain.toml")))
    plain = read_study(written(tmp_path / "plain.toml"))
    assert take_up(plain) is plain


def test_a_search_never_opens_a_test_patient_and_goes_on(
    tmp_path: Path, sites: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its cells are runs in processes of their own: one done, the other not; no image of a test patient can be read."""
    root = Path(shutil.copytree(sites, tmp_path / "data" / "sites"))
    one = {"methods": {"fed": METHODS["fed"]}, "search": {"budget": 2}}
    plan = make_plan(as_search(read(tmp_path, **one)), root, tmp_path / "out")
    experiment = plan.cells[0].experiment
    blind = 0
    for site in prepare(replace(experiment, training=replace(experiment.training, threads=1))).sites:
        for path in [path for case in site.cases("test") for path in (*case.image, *case.masks)]:
            path.write_bytes(b"no image")
            blind += 1
    assert blind >= 4
    finish(plan, {"fed.2": 0.0})
    timed = {"seconds": {"total": 1.0}, "peak_rss_bytes": 1000}
    done = plan.cells[1].folder(plan.out) / "summary.json"
    done.write_text(json.dumps({**json.loads(done.read_text()), **timed}))
    told, written_once = Told(), []
    monkeypatch.setattr(running, "write_chosen", lambda plan: written_once.append(write_chosen(plan)))
    assert run_study(plan, 1, told) == {}
    assert told.begun == [plan.cells[0].name] and len(written_once) == 1
    folder = plan.cells[0].folder(plan.out)
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["scored"] == "val" and summary["mean"]["dice"] >= 0
    assert not (folder / "pictures").exists() and not (folder / "report.html").exists()
    assert tomllib.loads((plan.out / FILE).read_text())["chosen"]["sites"]["fed"]["all"]["dice"][1] == 0
