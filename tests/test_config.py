"""Recipes: every check, every kind of wrong value, `--set` in all its forms, and TOML there and back."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sammit.config import DataConfig, EvaluationConfig, Experiment, MethodConfig, ModelConfig, TrainingConfig
from sammit.errors import UserError
from sammit.recipe import experiment_from
from sammit.toml import build, defaults, to_toml


def refused(table: dict[str, Any]) -> str:
    """The line that a user reads for a recipe."""
    with pytest.raises(UserError) as caught:
        experiment_from(table)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_an_empty_recipe_is_all_defaults() -> None:
    assert experiment_from({}) == Experiment()


@pytest.mark.parametrize(
    ("table", "key", "value"),
    [
        ("data", "size", 7),
        ("data", "scale", 0.05),
        ("data", "scale", 65.0),
        ("data", "scale", float("nan")),
        ("data", "longest", 100),
        ("data", "longest", -1),
        ("data", "overlap", -0.1),
        ("data", "overlap", 0.95),
        ("data", "foreground", 1.1),
        ("data", "empty_slices", -0.1),
        ("data", "window", [1.0]),
        ("data", "window", [2.0, 1.0]),
        ("data", "window", [1.0, 1.0]),
        ("data", "spacing", [1.0, 1.0]),
        ("data", "spacing", [1.0, 0.0, 1.0]),
        ("data", "split", []),
        ("data", "split", [0.5, 0.5]),
        ("data", "split", [0.5, 0.5, 0.0]),
        ("data", "split", [0.5, 0.3, 0.3]),
        ("data", "patient", "P[0-9]+"),
        ("data", "patient", "(a)(b)"),
        ("data", "patient", "(a"),
        ("model", "output_stride", 3),
        ("model", "output_stride", -1),
        ("training", "rounds", 0),
        ("training", "local_steps", -1),
        ("training", "local_epochs", 0.0),
        ("training", "batch_size", 0),
        ("training", "momentum", 1.0),
        ("training", "lr", 0.0),
        ("training", "lr", float("nan")),
        ("training", "adapter_lr", -1e-3),
        ("training", "warmup", 1.0),
        ("training", "clip", -1.0),
        ("training", "weight_decay", -0.1),
        ("training", "dice_weight", -1.0),
        ("training", "bce_weight", -0.1),
        ("training", "pos_weight", 0.0),
        ("training", "threads", -1),
        ("training", "min_sites", 0),
        ("evaluation", "every", 0),
    ],
)
def test_a_value_that_cannot_be_right_is_named(table: str, key: str, value: object) -> None:
    """The line begins with the value's dotted name and says what it must be."""
    text = refused({table: {key: value}})
    assert text.startswith(f"{table}.") and key in text


def test_both_losses_off() -> None:
    assert "above 0" in refused({"training": {"dice_weight": 0, "bce_weight": 0}})


@pytest.mark.parametrize(
    "table",
    [
        {"data": {"size": 8, "scale": 0.1, "longest": 8, "overlap": 0.9, "foreground": 0, "split": [0.2, 0.2, 0.6]}},
        {"data": {"window": [-100, 300], "spacing": [3, 0.5, 0.5], "patient": "^(P[0-9]+)_"}},
        {"training": {"local_steps": 1, "local_epochs": 0.0, "warmup": 0, "clip": 0, "momentum": 0}},
        {"model": {"output_stride": 16}},
    ],
)
def test_values_at_the_edge_are_taken(table: dict[str, Any]) -> None:
    experiment_from(table)


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({"trainning": {}}, "unknown key 'trainning': did you mean 'training'?"),
        ({"training": {"round": 3}}, "unknown key 'training.round': did you mean 'rounds'?"),
        ({"model": {"adaptor": ["lora"]}}, "unknown key 'model.adaptor': did you mean 'adapter'?"),
        (
            {"evaluation": {"zzz": 1}},
            "unknown key 'evaluation.zzz': known: cross_site, every, protocol, scored, selection, tolerance, unseen",
        ),
    ],
)
def test_an_unknown_key_is_answered_with_the_nearest(table: dict[str, Any], says: str) -> None:
    assert refused(table) == says


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({"seed": "0"}, "seed: must be a whole number, not '0'"),
        ({"seed": 1.0}, "seed: must be a whole number, not 1.0"),
        ({"seed": True}, "seed: must be a whole number, not True"),
        ({"name": 3}, "name: must be text in quotes, not 3"),
        ({"training": {"lr": "1e-3"}}, "training.lr: must be a number, not '1e-3'"),
        ({"training": {"lr": True}}, "training.lr: must be a number, not True"),
        ({"training": 3}, "training: must be a table"),
        ({"method": "fedavg"}, "method: must be a table"),
        ({"method": {"options": 3}}, "method.options: must be a table"),
        ({"model": {"options": "lora"}}, "model.options: must be a table"),
        ({"model": {"normalise": 1}}, "model.normalise: must be true or false, not 1"),
        ({"model": {"adapter": [1]}}, "model.adapter: must be text in quotes, not 1"),
        ({"data": {"view": "tiles"}}, "data.view: 'tiles' is none of 'tile', 'whole'"),
        ({"data": {"view": []}}, "data.view: '[]' is none of 'tile', 'whole'"),
        ({"data": {"window": ["low", "high"]}}, "data.window: must be a number, not 'low'"),
        ({"data": {"structures": ["nucleus"]}}, "data.structures: must be a table"),
    ],
)
def test_a_value_of_another_type_is_refused(table: dict[str, Any], says: str) -> None:
    assert refused(table) == says


def test_what_toml_writes_otherwise_is_taken_as_meant() -> None:
    """A whole number for a number, one word for a list of one, a number for a choice that is written as text."""
    found = experiment_from({"training": {"lr": 1}, "model": {"adapter": "lora"}, "data": {"axis": 0}})
    assert (found.training.lr, found.model.adapter, found.data.axis) == (1.0, ("lora",), "0")
    assert isinstance(found.training.lr, float)


def test_options_of_methods_and_adapters() -> None:
    """In a recipe they stand beside the rest; in the effective one under `options`. Both mean the same."""
    flat = {"method": {"name": "pfedsam", "shared": "full"}, "model": {"adapter": ["lora"], "lora": {"rank": 8}}}
    nested = {
        "method": {"name": "pfedsam", "options": {"shared": "full"}},
        "model": {"adapter": ["lora"], "options": {"lora": {"rank": 8}}},
    }
    assert experiment_from(flat) == experiment_from(nested)
    assert experiment_from(flat).method == MethodConfig("pfedsam", {"shared": "full"})
    assert experiment_from(flat).model.options == {"lora": {"rank": 8}}


words = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
shares = st.sampled_from([(0.6, 0.15, 0.25), (0.2, 0.2, 0.6)])
experiments = st.builds(
    Experiment,
    name=words,
    seed=st.integers(-(2**40), 2**40),
    data=st.builds(
        DataConfig,
        root=words,
        sites=st.lists(words, max_size=3).map(tuple),
        structures=st.dictionaries(words, st.one_of(words, st.integers(), st.lists(st.integers())), max_size=2),
        split=shares,
        window=st.sampled_from([(), (-100.0, 300.5)]),
        axis=st.sampled_from(["auto", "0"]),
    ),
    model=st.builds(
        ModelConfig,
        adapter=st.lists(st.sampled_from(["lora", "mixture"]), unique=True).map(tuple),
        options=st.sampled_from([{}, {"lora": {"rank": 8}}]),
        normalise=st.booleans(),
    ),
    method=st.builds(MethodConfig, name=words, options=st.sampled_from([{}, {"shared": "full", "kd_weight": 0.25}])),
    training=st.builds(TrainingConfig, rounds=st.integers(1, 99), lr=st.floats(1e-12, 1e3), warmup=st.floats(0, 0.99)),
    evaluation=st.builds(EvaluationConfig, unseen=st.lists(words, max_size=2).map(tuple)),
)


@given(experiments)
def test_toml_there_and_back(experiment: Experiment) -> None:
    assert experiment_from(tomllib.loads(to_toml(experiment))) == experiment


@dataclass(frozen=True)
class Sample:
    """A plugin's options."""

    kind: Literal["a", "b"] = "a"
    counts: tuple[int, ...] = (1, 2)
    more: dict[str, int] = field(default_factory=dict)


def test_any_dataclass_is_built_alike() -> None:
    assert build(Sample, {"kind": "b", "counts": 3, "more": {"x": 1}}, "method") == Sample("b", (3,), {"x": 1})
    with pytest.raises(UserError, match=r"method\.kind: 'c' is none of 'a', 'b'"):
        build(Sample, {"kind": "c"}, "method")
    with pytest.raises(UserError, match=r"method\.counts: must be a whole number, not 1\.5"):
        build(Sample, {"counts": [1, 1.5]}, "method")
    assert defaults(Sample) == {"kind": "a", "counts": (1, 2), "more": {}}
