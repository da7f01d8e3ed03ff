"""A study's file: which layer wins, and what is refused with the mend."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tomli_w

from sammit.errors import UserError
from sammit.study.file import choose, read_study
from study.small import TABLE, loaded, written


def test_common_then_dataset_then_set_then_method(tmp_path: Path) -> None:
    """Each layer over the one before it; a method's own --set over its tables."""
    methods = {
        "fed": {"training": {"lr": 0.4}},
        "unet": {"model": {"name": "unet", "weights": "random"}, "training": {"batch_size": 7}},
    }
    common = {"data": {"view": "whole"}, "training": {"rounds": 1, "lr": 0.1, "clip": 0.1, "momentum": 0.1}}
    dataset = {"eyes": {"training": {"rounds": 2, "lr": 0.2, "clip": 0.2}}}
    settings = ["training.rounds=3", "training.lr=0.3", "model.name=sam-vit-b", "methods.unet.training.batch_size=9"]
    study = loaded(tmp_path, *settings, common=common, dataset=dataset, methods=methods)
    fed, unet = study.experiment("eyes", "fed"), study.experiment("eyes", "unet")
    assert (fed.training.rounds, fed.training.lr, fed.training.clip, fed.training.momentum) == (3, 0.4, 0.2, 0.1)
    assert (fed.model.name, unet.model.name) == ("sam-vit-b", "unet")
    assert (unet.training.lr, unet.training.batch_size, fed.training.batch_size) == (0.3, 9, 8)
    assert study.experiment("other", "fed").training.clip == 0.1


def test_options_of_methods_and_adapters_are_joined_wherever_a_layer_has_them(tmp_path: Path) -> None:
    """`[method] shared`, `[method.options]` and `--set method.shared` are one place; structures are one value."""
    common = {
        "data": {"structures": {"disc": [1, 2]}},
        "method": {"name": "pfedsam", "options": {"kd_weight": 0.1, "shared": "lora"}},
        "model": {"adapter": ["lora", "mixture"], "mixture": {"width": 4, "experts": 3}},
    }
    dataset = {"eyes": {"data": {"structures": {"cup": 2}}, "method": {"kd_weight": 0.2}}}
    methods = {"p": {"model": {"options": {"mixture": {"width": 16}}}, "method": {"global_share": 0.8}}}
    study = loaded(tmp_path, "method.shared=full", common=common, dataset=dataset, methods=methods)
    p = study.experiment("eyes", "p")
    assert p.method.options == {"kd_weight": 0.2, "shared": "full", "global_share": 0.8}
    assert p.model.options == {"mixture": {"width": 16, "experts": 3}}
    assert p.data.structures == {"cup": 2}


def test_a_recipe_is_the_lowest_of_a_methods_own_tables(tmp_path: Path) -> None:
    """Relative to the study; its name, seed and unseen sites are not the cell's."""
    recipe = {
        "name": "r",
        "seed": 7,
        "training": {"rounds": 50, "lr": 0.5},
        "evaluation": {"unseen": ["elsewhere"]},
        "method": {"name": "centralised"},
    }
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "r.toml").write_text(tomli_w.dumps(recipe))
    methods = {"r": {"recipe": "../recipes/r.toml", "training": {"lr": 0.6}}}
    experiment = loaded(tmp_path / "studies", methods=methods).experiment("", "r", "birch")
    assert (experiment.training.rounds, experiment.training.lr) == (50, 0.6)
    assert (experiment.method.name, experiment.evaluation.unseen) == ("centralised", ("birch",))


METHOD = TABLE["methods"]["fed"]

WRONG: dict[str, dict[str, Any]] = {
    "unknown key 'seed': did you mean 'seeds'?": {"seed": 0},
    "name: is missing": {"name": None},
    "name: 'a/b' must be of letters": {"name": "a/b"},
    "dataset: '..' must be of letters": {"dataset": {"..": {}}},
    "measure.samples: must be a number above 0": {"measure": {"samples": []}},
    "measure.steps: must be at least 1": {"measure": {"steps": 0}},
    "kind: 'cost' is none of 'scores', 'costs'": {"kind": "cost"},
    "seeds: must name at least one": {"seeds": []},
    "seeds: names one twice": {"seeds": [1, 1]},
    "seeds: must be a whole number": {"seeds": [True]},
    "methods: is missing": {"methods": None},
    "methods: 'a.b' must be of letters": {"methods": {"a.b": METHOD}},
    "unknown key 'methods.fed.lable': did you mean 'label'?": {"methods": {"fed": {"lable": "FedMSA"}}},
    "methods: two have the label 'x'": {"methods": {"a": {"label": "x"}, "b": {"label": "x"}}},
    "methods.fed.recipe: there is no file": {"methods": {"fed": {"recipe": "none.toml"}}},
    "methods.fed: must be a table": {"methods": {"fed": 3}},
    "unknown key 'common.trainig': did you mean 'training'?": {"common": {"trainig": {}}},
    "common.training: must be a table": {"common": {"training": 3}},
    "unknown key 'training.round': did you mean 'rounds'?": {"common": {"training": {"round": 3}}},
    "methods.fed: training.rounds: must be at least 1": {"dataset": {"eyes": {"training": {"rounds": 0}}}},
    "common.evaluation.unseen: the study's own `unseen`": {"common": {"evaluation": {"unseen": ["birch"]}}},
    "dataset.eyes.data.root: --data says this": {"dataset": {"eyes": {"data": {"root": "x"}}}},
    "unknown key 'dataset.eyes.labels': known: data, ": {"dataset": {"eyes": {"labels": {}}}},
    "compare.pairs: there is no method 'fedd': did you mean 'fed'?": {"compare": {"pairs": [["fedd", "cen"]]}},
    "compare.pairs: must be pairs": {"compare": {"pairs": [["fed"]]}},
    "compare.reference: there is no method 'fedd': did you mean 'fed'?": {"compare": {"reference": "fedd"}},
    "compare.margin: must be above 0": {"compare": {"margin": 0}},
    "paper: there is no file": {"paper": "paper.csv"},
    "kind: costs are measured once a method": {"kind": "costs"},
}


@pytest.mark.parametrize("message", WRONG)
def test_files_that_are_not_right(tmp_path: Path, message: str) -> None:
    """One line that names the file and the key."""
    path = written(tmp_path / "study.toml", **WRONG[message])
    with pytest.raises(UserError) as raised:
        read_study(path)
    assert message in str(raised.value)
    assert str(path) in str(raised.value) and "\n" not in str(raised.value)


SETTINGS = {
    "trainig.rounds=3": "unknown table 'trainig': did you mean 'training'?",
    "seed=3": "unknown table 'seed'",
    "methods.fedd.training.rounds=3": "there is no method 'fedd': did you mean 'fed'?",
    "methods.fed.trainig.rounds=3": "unknown table 'trainig'",
    "methods.fed": "must be methods.NAME.TABLE.KEY=VALUE",
    "evaluation.unseen=['birch']": "choose unseen sites with --unseen",
    "training.rounds": "--set training.rounds: must be TABLE.KEY=VALUE",
    "training.round=3": "unknown key 'training.round'",
    "model.adapter=['lora']": "every method sets model.adapter itself; use --set methods.NAME.model.adapter=['lora']",
}


@pytest.mark.parametrize("setting", SETTINGS)
def test_settings_that_are_not_right(tmp_path: Path, setting: str) -> None:
    """One that every method overrules would do nothing, and says so."""
    with pytest.raises(UserError) as raised:
        loaded(tmp_path, setting)
    assert SETTINGS[setting] in str(raised.value)


def test_a_setting_that_some_method_takes_up_or_that_says_the_same_is_fine(tmp_path: Path) -> None:
    """Only what would be ignored everywhere is refused."""
    study = loaded(tmp_path, "method.name=local_only", "model.adapter=['bottleneck']")
    assert study.experiment("", "fed").method.name == "local_only"
    assert study.experiment("", "cen").method.name == "centralised"


def test_a_choice_of_methods_keeps_their_order_and_their_pairs(tmp_path: Path) -> None:
    """A pair of which one half is left out is not compared."""
    methods = {name: {"label": name.upper()} for name in ("a", "b", "c")}
    study = loaded(tmp_path, methods=methods, compare={"pairs": [["a", "b"], ["a", "c"]], "reference": "b"})
    chosen = choose(study, ["c", "a"], ["birch"], [5])
    assert list(chosen.methods) == ["a", "c"] == list(chosen.labels)
    assert chosen.compare.pairs == (("a", "c"),)
    assert (study.compare.reference, chosen.compare.reference) == ("b", "")
    assert (chosen.unseen, chosen.seeds) == (("birch",), (5,))
    with pytest.raises(UserError, match="there is no method 'd': known: a, b, c"):
        choose(study, ["d"])
    with pytest.raises(UserError, match="methods: must name at least one"):
        choose(study, [])
    costs = loaded(tmp_path, kind="costs", unseen="none")
    assert choose(costs, None, ["birch"], [3]).unseen == ("birch",)
    for unseen, seeds in ((["each"], None), (["aster", "birch"], None), (None, [0, 1])):
        with pytest.raises(UserError, match="costs are measured once a method"):
            choose(costs, None, unseen, seeds)
