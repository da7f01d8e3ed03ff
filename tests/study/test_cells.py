"""Which cells a study has, where its datasets are found, and what is known to be wrong before the first starts."""

from __future__ import annotations

import shutil
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tiny
from sammit.errors import UserError
from sammit.study.cells import expand
from sammit.study.datasets import Dataset, find_datasets
from sammit.study.file import Study, choose
from sammit.study.plan import make_plan, settle
from study.small import cells_of, loaded

NAMES = st.lists(st.sampled_from(["a", "b", "c", "d", "e.1"]), min_size=1, unique=True)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A study of up to five methods."""
    methods = {name: {"label": name.upper()} for name in ("a", "b", "c", "d", "e-1")}
    return loaded(tmp_path_factory.mktemp("study"), methods=methods)


@given(
    methods=st.lists(st.sampled_from(["a", "b", "c", "d", "e-1"]), min_size=1, unique=True),
    seeds=st.lists(st.integers(0, 99), min_size=1, max_size=4, unique=True),
    sites=st.dictionaries(NAMES.map("".join), NAMES, min_size=1, max_size=3),
    unseen=st.one_of(st.just(["none"]), st.just(["each"]), NAMES),
)
def test_every_cell_once(
    study: Study, methods: list[str], seeds: list[int], sites: dict[str, list[str]], unseen: list[str]
) -> None:
    """The product of datasets, their unseen sites, methods and seeds; each in a folder of its own."""
    chosen = choose(study, methods, unseen, seeds)
    datasets = [Dataset(name, Path(name).absolute()) for name in sites]
    known = {site for names in sites.values() for site in names}
    if unseen == ["each"] and min(map(len, sites.values())) == 1:
        with pytest.raises(UserError, match="has one site, and unseen = 'each'"):
            expand(chosen, datasets, sites)
        return
    if unseen not in (["none"], ["each"]) and not set(unseen) <= known:
        with pytest.raises(UserError, match="unseen: there is no site"):
            expand(chosen, datasets, sites)
        return
    cells = expand(chosen, datasets, sites)
    wanted = set()
    for dataset, names in sites.items():
        held = {"none": [""], "each": names}.get(unseen[0], [site for site in unseen if site in names])
        wanted |= set(product([dataset], methods, held, seeds))
    got = [(cell.dataset, cell.method, cell.unseen, cell.seed) for cell in cells]
    assert len(got) == len(wanted) and set(got) == wanted
    assert len({cell.folder(Path("out")) for cell in cells}) == len(cells)
    assert len({cell.beside(Path("out"), ".toml") for cell in cells}) == len(cells)
    assert cells == expand(chosen, datasets, sites)
    for cell in cells:
        assert cell.experiment.evaluation.unseen == ((cell.unseen,) if cell.unseen else ())
        assert cell.experiment.seed == cell.seed
        assert cell.experiment.data.root == str(Path(cell.dataset).absolute())


def test_a_table_fills_evenly(study: Study, tmp_path: Path) -> None:
    """Whenever it is stopped, no method is more than one cell ahead of another, and seeds come one after the other."""
    cells = cells_of(choose(study, seeds=[3, 4]), tmp_path)
    for end in range(len(cells) + 1):
        counts = [sum(cell.method == method for cell in cells[:end]) for method in study.methods]
        assert max(counts) - min(counts) <= 1
    assert [cell.seed for cell in cells] == [3] * 10 + [4] * 10
    assert cells[0].name == f"{tmp_path.name}/a/aster-seed-3"


def roots(folder: Path, sites: Path, *names: str) -> Path:
    """A folder of datasets, all of them alike."""
    for name in names:
        shutil.copytree(sites, folder / name)
    return folder


def test_datasets_under_the_root(tmp_path: Path, sites: Path) -> None:
    """Each that is there, in the file's order; the others are named; a root of sites is one dataset."""
    study = loaded(tmp_path, dataset={name: {"training": {"rounds": 2}} for name in ("eyes", "brains", "cells")})
    root = roots(tmp_path / "data", sites, "cells", "eyes", "others")
    found, missing = find_datasets(study, root)
    assert [(dataset.name, dataset.root) for dataset in found] == [("eyes", root / "eyes"), ("cells", root / "cells")]
    assert missing == ["brains"]
    for name, rounds in (("eyes", 2), ("others", 1)):
        found, missing = find_datasets(study, root / name)
        assert [dataset.name for dataset in found] == [name] and missing == []
        assert study.experiment(name, "fed").training.rounds == rounds
    with pytest.raises(
        UserError, match=r"holds none of the study's datasets \(eyes, brains, cells\), and is no folder"
    ):
        find_datasets(study, tmp_path)
    with pytest.raises(UserError, match="there is no such folder"):
        find_datasets(study, tmp_path / "nowhere")


def test_a_plan_writes_nothing(tmp_path: Path, sites: Path) -> None:
    """Cells, sites, nothing done, and no folder."""
    plan = make_plan(loaded(tmp_path), sites, tmp_path / "out")
    assert plan.sites == {sites.name: list(tiny.LOOKS)}
    assert len(plan.cells) == 4 == len(plan.todo)
    assert not (tmp_path / "out").exists()


METHOD = {"model": {"adapter": ["bottleneck"]}}

WRONG: dict[str, dict[str, Any]] = {
    "there is no site 'brich': did you mean 'birch'?": {"unseen": ["brich"]},
    "fed/aster-seed-0: unknown method 'fedavk': did you mean 'fedavg'?": {"common": {"method": {"name": "fedavk"}}},
    "unknown key 'method.shared'": {"methods": {"fed": {"method": {"shared": "full"}}}},
    "fed/aster-seed-0: unknown model 'sam-tyni'": {"methods": {"fed": {"model": {"name": "sam-tyni"}}}},
    "no such adapter in model.adapter": {"methods": {"fed": {"model": {"lora": {"rank": 2}}}}},
    "fed/aster-seed-0: data.size: 20 is not a multiple": {"common": {"data": {"size": 20}}},
    "no such file of weights": {"methods": {"fed": {"model": {"weights": "none.pth"}}}},
    "training.min_sites: 2, but 1 sites train": {"methods": {"fed": {"training": {"min_sites": 2}}}},
    "data.sites: there is no site 'brich'": {"common": {"data": {"sites": ["brich"]}}},
    "has one site, and unseen = 'each' leaves none": {"common": {"data": {"sites": ["birch"]}}},
    "patient(s); at least 3 are needed": {"common": {"data": {"patient": "^(p)"}}},
}


@pytest.mark.parametrize("message", WRONG)
def test_refused_before_anything_starts(tmp_path: Path, sites: Path, message: str) -> None:
    """One line with the cell's name where it is a cell's; nothing is written."""
    study = loaded(tmp_path, **WRONG[message])
    with pytest.raises(UserError) as raised:
        make_plan(study, sites, tmp_path / "out")
    assert message in str(raised.value) and "\n" not in str(raised.value)
    assert not (tmp_path / "out").exists()


def test_a_root_must_be_named_somewhere(tmp_path: Path, sites: Path) -> None:
    """By --data or by the study; costs can do without."""
    with pytest.raises(UserError, match=r"data\.root: no folder is named; set --data"):
        make_plan(loaded(tmp_path), None, tmp_path / "out")
    named = loaded(tmp_path, common={"data": {"root": str(sites)}})
    assert len(make_plan(named, None, tmp_path / "out").cells) == 4
    costs = make_plan(loaded(tmp_path, kind="costs", unseen="none"), None, tmp_path / "out")
    assert [cell.name for cell in costs.cells] == ["generated/fed/all-seed-0", "generated/cen/all-seed-0"]


def test_another_study_in_the_folder(tmp_path: Path, sites: Path) -> None:
    """A file, other things, a study of another name, and one whose beginning is damaged."""
    study, out = loaded(tmp_path), tmp_path / "out"
    for path, content, message in [
        (out, "a file", "out: is a file; choose another --out"),
        (out / "photo.png", "", "is not empty and holds no study"),
        (
            out / "study.json",
            '{"name": "x", "kind": "scores", "threads": 1}',
            "holds a study with name = 'x', not 'small'",
        ),
        (out / "study.json", '{"name": "sm', "study.json: is damaged"),
    ]:
        path.parent.mkdir(exist_ok=True)
        path.write_text(content)
        with pytest.raises(UserError, match=message):
            make_plan(study, sites, out)
        path.unlink()


def test_threads_are_chosen_once(tmp_path: Path, sites: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many cells as cores, or one alone on a GPU; the first start's threads are kept, whatever --jobs says later."""
    monkeypatch.setattr("sammit.study.plan.cores", lambda: 8)
    study = loaded(tmp_path)
    for name, jobs, wanted in [("a", 0, (4, 2)), ("b", 3, (3, 2)), ("c", 1, (1, 8)), ("d", 16, (16, 1))]:
        out = tmp_path / name
        assert settle(make_plan(study, sites, out), jobs) == wanted
        assert settle(make_plan(study, sites, out), 0)[1] == wanted[1]
        assert settle(make_plan(study, sites, out), 5) == (5, wanted[1])
    monkeypatch.setattr("sammit.federation.inputs.resolved", lambda experiment: experiment)
    plan = make_plan(loaded(tmp_path, "training.device=cuda"), sites, tmp_path / "gpu")
    assert settle(plan, 0) == (1, 8)
