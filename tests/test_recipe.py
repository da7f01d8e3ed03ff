"""Recipes: files, `--set` in all its forms, and where options of methods and adapters belong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sammit.config import EvaluationConfig, Experiment, TrainingConfig
from sammit.errors import UserError
from sammit.recipe import experiment_from, load_experiment, with_settings
from sammit.toml import build


def test_a_recipe_is_not_changed_by_reading() -> None:
    table: dict[str, Any] = {"method": {"name": "pfedsam", "shared": "full"}, "training": {}}
    experiment_from(table)
    with_settings(table, ["method.shared=lora", "training.rounds=3", "data.size=64"])
    assert table == {"method": {"name": "pfedsam", "shared": "full"}, "training": {}}


@pytest.mark.parametrize(
    ("setting", "path", "value"),
    [
        ("seed=3", ["seed"], 3),
        ("name=run-1", ["name"], "run-1"),
        ('name="3"', ["name"], "3"),
        ("training.rounds=3", ["training", "rounds"], 3),
        ("training.rounds = 3", ["training", "rounds"], 3),
        ("training.lr=1e-4", ["training", "lr"], 1e-4),
        ("model.normalise=false", ["model", "normalise"], False),
        ('model.adapter=["lora", "mixture"]', ["model", "adapter"], ["lora", "mixture"]),
        ("data.root=/sites/a=b", ["data", "root"], "/sites/a=b"),
        ("data.structures.nucleus=> 0", ["data", "structures", "nucleus"], "> 0"),
        ("data.cache=", ["data", "cache"], ""),
        ("method.name=fedavg", ["method", "name"], "fedavg"),
        ("method.shared=full", ["method", "options", "shared"], "full"),
        ("method.options.shared=full", ["method", "options", "shared"], "full"),
        ("model.lora.rank=8", ["model", "options", "lora", "rank"], 8),
        ("model.options.lora.rank=8", ["model", "options", "lora", "rank"], 8),
    ],
)
def test_every_form_of_a_setting(setting: str, path: list[str], value: object) -> None:
    found: Any = with_settings({}, [setting])
    for name in path:
        found = found[name]
    assert found == value


@pytest.mark.parametrize("recipe", [{"shared": "lora"}, {"options": {"shared": "lora"}}])
@pytest.mark.parametrize("key", ["method.shared", "method.options.shared"])
def test_a_setting_wins_however_the_recipe_is_written(recipe: dict[str, Any], key: str) -> None:
    found = experiment_from(with_settings({"method": recipe}, [f"{key}=full"]))
    assert found.method.options == {"shared": "full"}


@pytest.mark.parametrize(
    "options", [{"options": {"lora": {"rank": 4, "alpha": 8.0}}}, {"lora": {"rank": 4, "alpha": 8.0}}]
)
@pytest.mark.parametrize("key", ["model.lora.rank", "model.options.lora.rank"])
def test_a_setting_of_an_adapter_keeps_its_other_options(options: dict[str, Any], key: str) -> None:
    """An effective config.toml is a recipe too."""
    found = experiment_from(with_settings({"model": options}, [f"{key}=8"]))
    assert found.model.options == {"lora": {"rank": 8, "alpha": 8.0}}


def test_the_last_setting_wins() -> None:
    assert with_settings({}, ["seed=1", "seed=2"]) == {"seed": 2}


@pytest.mark.parametrize("setting", ["seed", "=3", " =3", ""])
def test_a_setting_without_key_or_value(setting: str) -> None:
    with pytest.raises(UserError, match=r"must be TABLE\.KEY=VALUE"):
        with_settings({}, [setting])


def test_a_setting_through_a_value() -> None:
    with pytest.raises(UserError, match=r"--set seed\.x=3: 'seed' is a value, not a table"):
        with_settings({"seed": 1}, ["seed.x=3"])


def test_load_from_a_file(tmp_path: Path) -> None:
    recipe = tmp_path / "a.toml"
    recipe.write_text('name = "Süd"\n[training]\nrounds = 3\n', encoding="utf-8")
    found = load_experiment(recipe, ["training.rounds=4", "evaluation.unseen=Nord"])
    assert found == Experiment("Süd", training=TrainingConfig(rounds=4), evaluation=EvaluationConfig(unseen=("Nord",)))


def test_files_that_are_no_recipe(tmp_path: Path) -> None:
    (tmp_path / "latin.toml").write_bytes('name = "Süd"'.encode("latin-1"))
    (tmp_path / "broken.toml").write_text("name = \n")
    for name, says in (
        ("none.toml", "there is no such file"),
        ("latin.toml", "not a TOML file"),
        ("broken.toml", r"not a TOML file .*line 1"),
        (".", "cannot be read"),
        ("broken.toml/x", "cannot be read"),
    ):
        with pytest.raises(UserError, match=says):
            load_experiment(tmp_path / name)


@pytest.mark.parametrize("recipe", sorted((Path(__file__).parents[1] / "recipes").glob("*.toml")), ids=lambda p: p.stem)
def test_every_recipe_of_the_repository_is_sound(recipe: Path) -> None:
    """Its options too."""
    from sammit import plugins
    from sammit.federation.prepare import make_method
    from sammit.models.attach import OWN

    found = load_experiment(recipe)
    make_method(found)
    for adapter in found.model.adapter:
        module = plugins.load("adapters", adapter.removeprefix(OWN))
        build(module.Options, found.model.options.get(adapter, {}), f"model.{adapter}")
