"""A study's file: what it compares, and the recipe's tables of each of its cells."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from sammit.config import Experiment, experiment_from, with_settings
from sammit.errors import UserError, nearest
from sammit.study.layers import TABLES, Tables, check_tables, check_taken_up, layered, normal, sort_settings
from sammit.toml import build, read_toml

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


@dataclass(frozen=True)
class Compare:
    """`[compare]`: what the tables test."""

    margin: float = 0.02  # of non-inferiority, Dice
    pairs: tuple[tuple[str, ...], ...] = ()  # method keys: (federated, centralised)


@dataclass(frozen=True)
class Measure:
    """`[measure]`: how a study of costs measures."""

    steps: int = 3  # timed, after a first one that warms up
    samples: tuple[int, ...] = (100, 100, 100, 100)  # training images of each source site, where there is no --data


@dataclass(frozen=True)
class MethodTables:
    """`[methods.NAME]`: a row of the table.

    Attributes:
        label: its name in tables, and in the paper's.
        recipe: a recipe, relative to the study's file, whose tables come below its own; the study says for itself what
            its name, its seed and its unseen sites are.
    """

    label: str = ""
    recipe: str = ""
    data: Tables = field(default_factory=dict)
    model: Tables = field(default_factory=dict)
    method: Tables = field(default_factory=dict)
    training: Tables = field(default_factory=dict)
    evaluation: Tables = field(default_factory=dict)


@dataclass(frozen=True)
class _File:
    """The top of the file."""

    name: str = ""
    title: str = ""
    kind: Literal["scores", "costs"] = "scores"
    seeds: tuple[int, ...] = (0,)
    unseen: tuple[str, ...] = ("none",)
    paper: str = ""
    compare: Compare = field(default_factory=Compare)
    measure: Measure = field(default_factory=Measure)
    common: Tables = field(default_factory=dict)
    dataset: Tables = field(default_factory=dict)
    methods: Tables = field(default_factory=dict)


@dataclass(frozen=True)
class Study:
    """A study, read and checked.

    Attributes:
        path: its file.
        name, title: of the study; the title stands over its tables.
        kind: "scores" trains and scores, "costs" measures.
        seeds: at least one, distinct.
        unseen: ("each",), ("none",), or names of sites.
        paper: a CSV of published numbers, or None.
        compare, measure: as in the file.
        common: tables of all cells.
        datasets: dataset -> the tables that it changes; empty where the study takes any.
        methods: method key -> its tables, those of its recipe below.
        labels: method key -> name in tables.
        settings: `--set TABLE.KEY=VALUE`; above the datasets' tables, below the methods'.
    """

    path: Path
    name: str
    title: str
    kind: Literal["scores", "costs"]
    seeds: tuple[int, ...]
    unseen: tuple[str, ...]
    paper: Path | None
    compare: Compare
    measure: Measure
    common: Tables
    datasets: dict[str, Tables]
    methods: dict[str, Tables]
    labels: dict[str, str]
    settings: tuple[str, ...] = ()

    def experiment(self, dataset: str, method: str, unseen: str = "") -> Experiment:
        """The experiment of a method on a dataset with one site unseen, or none; of no seed and no folder yet.

        Raises:
            UserError: a key or value that cannot be right; says of which method.
        """
        below = with_settings(layered(self.common, self.datasets.get(dataset, {})), list(self.settings))
        tables = layered(below, self.methods[method])
        try:
            return experiment_from(layered(tables, {"evaluation": {"unseen": [unseen] if unseen else []}}))
        except UserError as error:
            raise UserError(f"{self.path}, methods.{method}: {error}") from None

    def example(self, dataset: str, method: str) -> Experiment:
        """The experiment of any of their cells: what is the same in all, before the sites are known."""
        return self.experiment(dataset, method, "" if self.unseen == ("none",) else self.unseen[0])


def load_study(path: Path, settings: Sequence[str] = ()) -> Study:
    """The study of a file with `--set` overrides, of its methods' own tables too (methods.NAME.TABLE.KEY=VALUE).

    Raises:
        UserError: whatever in the file or the settings cannot be right, with the mend.
    """
    table = read_toml(path)
    with _in(path):
        file = build(_File, table, "")
    own, shared = sort_settings(settings, file.methods)
    with _in(path):
        study = _checked(path, file, own, shared)
    for dataset in study.datasets or {"": {}}:
        for method in study.methods:
            study.example(dataset, method)
    check_taken_up(shared, study.methods)
    return study


@contextmanager
def _in(path: Path) -> Iterator[None]:
    """A mistake found while the context lasts is one of this file."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def _checked(path: Path, file: _File, own: Mapping[str, list[str]], shared: list[str]) -> Study:
    """The study of a file whose keys are known."""
    _check_values(file)
    check_tables(file.common, "common")
    for name, tables in file.dataset.items():
        check_tables(tables, f"dataset.{name}")
    methods = {name: _method(path, name, table, own.get(name, [])) for name, table in file.methods.items()}
    study = Study(
        path,
        file.name,
        file.title or file.name,
        file.kind,
        file.seeds,
        file.unseen,
        _beside(path, file.paper, "paper") if file.paper else None,
        file.compare,
        file.measure,
        normal(file.common),
        {name: normal(tables) for name, tables in file.dataset.items()},
        {name: tables for name, (_, tables) in methods.items()},
        {name: label for name, (label, _) in methods.items()},
        tuple(shared),
    )
    labels = list(study.labels.values())
    for label in labels:
        _need(labels.count(label) == 1, f"methods: two have the label '{label}'; give each its own")
    return choose(study, None, file.unseen, file.seeds)


def _check_values(file: _File) -> None:
    """Raise UserError where a value of the file's top cannot be right."""
    _need(bool(file.name), "name: is missing; give the study a name")
    _need(bool(file.methods), "methods: is missing; give a table [methods.NAME] for each row")
    for what, names in (("name", [file.name]), ("dataset", file.dataset), ("methods", file.methods)):
        for name in names:
            _need(
                bool(_NAME.fullmatch(name)), f"{what}: '{name}' must be of letters, digits, '_' and '-', to be a folder"
            )
    _need(0 < file.compare.margin < 1, "compare.margin: must be above 0 and below 1")
    known = list(file.methods)
    for pair in file.compare.pairs:
        _need(len(pair) == 2, "compare.pairs: must be pairs, [federated, centralised]")
        for name in pair:
            _need(name in known, f"compare.pairs: there is no method '{name}': {nearest(name, known)}")
    _need(file.measure.steps >= 1, "measure.steps: must be at least 1")
    _need(min(file.measure.samples, default=0) >= 1, "measure.samples: must be a number above 0 for each site")


def choose(
    study: Study,
    methods: Sequence[str] | None = None,
    unseen: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
) -> Study:
    """The study with some of its methods, other unseen sites, other seeds; None leaves each as it is.

    Raises:
        UserError: an unknown method, a name twice, or nothing left.
    """
    for name, chosen in (("methods", methods), ("unseen", unseen), ("seeds", seeds)):
        _need(chosen is None or len(chosen) > 0, f"{name}: must name at least one")
        _need(chosen is None or len(set(chosen)) == len(chosen), f"{name}: names one twice")
    for name in methods or ():
        _need(name in study.methods, f"methods: there is no method '{name}': {nearest(name, list(study.methods))}")
    seeds, unseen = tuple(seeds or study.seeds), tuple(unseen or study.unseen)
    once = len(seeds) == len(unseen) == 1 and unseen != ("each",)
    _need(study.kind == "scores" or once, "kind: costs are measured once a method; give one seed, and unseen = 'none'")
    kept = [name for name in study.methods if methods is None or name in methods]
    pairs = tuple(pair for pair in study.compare.pairs if set(pair) <= set(kept))
    return replace(
        study,
        methods={name: study.methods[name] for name in kept},
        labels={name: study.labels[name] for name in kept},
        compare=replace(study.compare, pairs=pairs),
        unseen=unseen,
        seeds=seeds,
    )


def _method(path: Path, name: str, table: Any, settings: list[str]) -> tuple[str, Tables]:
    """A method's label and its tables: its recipe's, its own over them, the settings over both."""
    where = f"methods.{name}"
    _need(isinstance(table, dict), f"{where}: must be a table")
    method = build(MethodTables, table, where)
    own = {key: getattr(method, key) for key in TABLES if key in table}
    check_tables(own, where)
    recipe = read_toml(_beside(path, method.recipe, f"{where}.recipe")) if method.recipe else {}
    base = {key: value for key, value in recipe.items() if key not in ("name", "seed")}
    return method.label or name, with_settings(layered(normal(base), normal(own)), settings)


def _beside(study: Path, name: str, where: str) -> Path:
    """A file that the study names, relative to its own folder."""
    path = study.parent / name
    _need(path.is_file(), f"{where}: there is no file {path}; give its path relative to the study's file")
    return path


def _need(holds: bool, message: str) -> None:
    if not holds:
        raise UserError(message)
