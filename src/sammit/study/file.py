"""A study's file: what it compares, and the recipe's tables of each of its cells."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from sammit.config import Experiment
from sammit.errors import UserError, nearest
from sammit.recipe import experiment_from, with_settings
from sammit.study.candidates import Chosen, check_candidates, check_search, fingerprint
from sammit.study.layers import TABLES, Tables, check_tables, check_taken_up, layered, normal, sort_settings
from sammit.study.schema import Compare, File, Measure, MethodTables, Search, check_values, need
from sammit.toml import build, read_toml


@dataclass(frozen=True)
class Study:
    """A study, read and checked.

    Attributes:
        path: its file.
        name, title: of the study; the title stands over its tables.
        kind: "scores" trains and scores, "costs" measures, "search" scores candidates on validation patients.
        seeds: at least one, distinct.
        unseen: ("each",), ("none",), or names of sites.
        paper: a CSV of published numbers, or None.
        compare, measure, search: as in the file.
        common: tables of all cells.
        datasets: dataset -> the tables that it changes; empty where the study takes any.
        methods: method key -> its tables, those of its recipe below.
        labels: method key -> name in tables.
        candidates: method key -> tables of the search's candidates, the first without any.
        mark: fingerprint of all that a search depends on.
        settings: `--set TABLE.KEY=VALUE`; above the datasets' tables, below the methods'.
        chosen_file: where the study's file says that the chosen candidates are written; None where it does not say.
        chosen: what a search chose, which is put over the methods' tables; None before it is taken up.
    """

    path: Path
    name: str
    title: str
    kind: Literal["scores", "costs", "search"]
    seeds: tuple[int, ...]
    unseen: tuple[str, ...]
    paper: Path | None
    compare: Compare
    measure: Measure
    search: Search
    common: Tables
    datasets: dict[str, Tables]
    methods: dict[str, Tables]
    labels: dict[str, str]
    candidates: dict[str, tuple[Tables, ...]]
    mark: str
    settings: tuple[str, ...] = ()
    chosen_file: Path | None = None
    chosen: Chosen | None = None

    def experiment(self, dataset: str, method: str, unseen: str = "") -> Experiment:
        """The experiment of a method on a dataset with one site unseen, or none; of no seed and no folder yet.

        Raises:
            UserError: a key or value that cannot be right, or nothing chosen for it; says of which method.
        """
        below = with_settings(layered(self.common, self.datasets.get(dataset, {})), list(self.settings))
        tables = layered(below, self.methods[method])
        if self.chosen:
            chosen = self.chosen.tables(dataset, method, unseen, self.candidates[method])
            tables = layered(tables, normal(chosen))
        try:
            return experiment_from(layered(tables, {"evaluation": {"unseen": [unseen] if unseen else []}}))
        except UserError as error:
            raise UserError(f"{self.path}, methods.{method}: {error}") from None

    def example(self, dataset: str, method: str) -> Experiment:
        """The experiment of any of their cells, nothing chosen: what is the same in all, before sites are known."""
        unseen = "" if self.unseen == ("none",) else self.unseen[0]
        return replace(self, chosen=None).experiment(dataset, method, unseen)


def read_study(path: Path, settings: Sequence[str] = ()) -> Study:
    """The study of a file with `--set` overrides, of its methods' own tables too (methods.NAME.TABLE.KEY=VALUE).

    What a search chose is not taken up yet; see `search`.

    Raises:
        UserError: whatever in the file or the settings cannot be right, with the mend.
    """
    table = read_toml(path)
    with _in(path):
        file = build(File, table, "")
    own, shared = sort_settings(settings, file.methods)
    with _in(path):
        study = _checked(path, file, own, shared)
    for dataset in study.datasets or {"": {}}:
        for method in study.methods:
            scored = study.example(dataset, method).evaluation.scored
            need(scored == "test", f"{path}, methods.{method}: evaluation.scored: leave it to --search; take it out")
    check_taken_up(shared, study.methods)
    return study


@contextmanager
def _in(path: Path) -> Iterator[None]:
    """A mistake found while the context lasts is one of this file."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def _checked(path: Path, file: File, own: Mapping[str, list[str]], shared: list[str]) -> Study:
    """The study of a file whose keys are known."""
    check_values(file)
    check_tables(file.common, "common")
    for name, tables in file.dataset.items():
        check_tables(tables, f"dataset.{name}")
    check_search(file)
    methods = {name: _method(path, name, table, own.get(name, [])) for name, table in file.methods.items()}
    candidates = {name: check_candidates(file.search, name, others) for name, (_, _, others) in methods.items()}
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
        file.search,
        normal(file.common),
        {name: normal(tables) for name, tables in file.dataset.items()},
        {name: tables for name, (_, tables, _) in methods.items()},
        {name: label for name, (label, _, _) in methods.items()},
        candidates,
        "",
        tuple(shared),
        path.parent / file.chosen if file.chosen else None,
    )
    study = replace(study, mark=fingerprint(study.search, study.common, study.datasets, study.methods, candidates))
    labels = list(study.labels.values())
    for label in labels:
        need(labels.count(label) == 1, f"methods: two have the label '{label}'; give each its own")
    return choose(study, None, file.unseen, file.seeds)


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
        need(chosen is None or len(chosen) > 0, f"{name}: must name at least one")
        need(chosen is None or len(set(chosen)) == len(chosen), f"{name}: names one twice")
    for name in methods or ():
        need(name in study.methods, f"methods: there is no method '{name}': {nearest(name, list(study.methods))}")
    seeds, unseen = tuple(seeds or study.seeds), tuple(unseen or study.unseen)
    once = len(seeds) == len(unseen) == 1 and unseen != ("each",)
    need(study.kind == "scores" or once, "kind: costs are measured once a method; give one seed, and unseen = 'none'")
    kept = [name for name in study.methods if methods is None or name in methods]
    pairs = tuple(pair for pair in study.compare.pairs if set(pair) <= set(kept))
    reference = study.compare.reference if study.compare.reference in kept else ""
    return replace(
        study,
        methods={name: study.methods[name] for name in kept},
        labels={name: study.labels[name] for name in kept},
        candidates={name: study.candidates[name] for name in kept},
        compare=replace(study.compare, pairs=pairs, reference=reference),
        unseen=unseen,
        seeds=seeds,
    )


def _method(path: Path, name: str, table: Any, settings: list[str]) -> tuple[str, Tables, tuple[Tables, ...]]:
    """A method's label, its tables (its recipe's, its own over them, the settings over both), its other candidates."""
    where = f"methods.{name}"
    need(isinstance(table, dict), f"{where}: must be a table")
    method = build(MethodTables, table, where)
    own = {key: getattr(method, key) for key in TABLES if key in table}
    check_tables(own, where)
    recipe = read_toml(_beside(path, method.recipe, f"{where}.recipe")) if method.recipe else {}
    base = {key: value for key, value in recipe.items() if key not in ("name", "seed")}
    return method.label or name, with_settings(layered(normal(base), normal(own)), settings), method.search


def _beside(study: Path, name: str, where: str) -> Path:
    """A file that the study names, relative to its own folder."""
    path = study.parent / name
    need(path.is_file(), f"{where}: there is no file {path}; give its path relative to the study's file")
    return path
