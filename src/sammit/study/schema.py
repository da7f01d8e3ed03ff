"""The shape of a study's file: its tables, their defaults, and what a value of its top may be."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

from sammit.errors import UserError, nearest
from sammit.study.layers import Tables

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


@dataclass(frozen=True)
class Compare:
    """`[compare]`: what the tables test."""

    margin: float = 0.02  # of non-inferiority, Dice
    pairs: tuple[tuple[str, ...], ...] = ()  # method keys: (federated, centralised)
    reference: str = ""  # a method's key: each other method is set against it


@dataclass(frozen=True)
class Measure:
    """`[measure]`: how a study of costs measures."""

    steps: int = 3  # timed, after a first one that warms up
    samples: tuple[int, ...] = (100, 100, 100, 100)  # training images of each source site, where there is no --data


@dataclass(frozen=True)
class Search:
    """`[search]`: how settings are chosen on validation patients, before any test patient is scored."""

    budget: int = 0  # candidates of every method, its own tables as they are the first of them; 0: no search
    seeds: tuple[int, ...] = (0,)  # a candidate's score is the mean over them
    training: Tables = field(default_factory=dict)  # put over every cell of the search
    evaluation: Tables = field(default_factory=dict)  # likewise


@dataclass(frozen=True)
class MethodTables:
    """`[methods.NAME]`: a row of the table.

    Attributes:
        label: its name in tables, and in the paper's.
        recipe: a recipe, relative to the study's file, whose tables come below its own; the study says for itself what
            its name, its seed and its unseen sites are.
        search: tables of the search's other candidates, each put over the method's own.
    """

    label: str = ""
    recipe: str = ""
    search: tuple[Tables, ...] = ()
    data: Tables = field(default_factory=dict)
    model: Tables = field(default_factory=dict)
    method: Tables = field(default_factory=dict)
    training: Tables = field(default_factory=dict)
    evaluation: Tables = field(default_factory=dict)


@dataclass(frozen=True)
class File:
    """The top of the file."""

    name: str = ""
    title: str = ""
    kind: Literal["scores", "costs"] = "scores"
    seeds: tuple[int, ...] = (0,)
    unseen: tuple[str, ...] = ("none",)
    paper: str = ""
    chosen: str = ""
    compare: Compare = field(default_factory=Compare)
    measure: Measure = field(default_factory=Measure)
    search: Search = field(default_factory=Search)
    common: Tables = field(default_factory=dict)
    dataset: Tables = field(default_factory=dict)
    methods: Tables = field(default_factory=dict)


def check_values(file: File) -> None:
    """Raise UserError where a value of the file's top cannot be right."""
    need(bool(file.name), "name: is missing; give the study a name")
    need(bool(file.methods), "methods: is missing; give a table [methods.NAME] for each row")
    for what, names in (("name", [file.name]), ("dataset", file.dataset), ("methods", file.methods)):
        for name in names:
            need(
                bool(_NAME.fullmatch(name)), f"{what}: '{name}' must be of letters, digits, '_' and '-', to be a folder"
            )
    need(0 < file.compare.margin < 1, "compare.margin: must be above 0 and below 1")
    known = list(file.methods)
    for pair in file.compare.pairs:
        need(len(pair) == 2, "compare.pairs: must be pairs, [federated, centralised]")
        for name in pair:
            need(name in known, f"compare.pairs: there is no method '{name}': {nearest(name, known)}")
    name = file.compare.reference
    need(name in ("", *known), f"compare.reference: there is no method '{name}': {nearest(name, known)}")
    need(file.measure.steps >= 1, "measure.steps: must be at least 1")
    need(min(file.measure.samples, default=0) >= 1, "measure.samples: must be a number above 0 for each site")
    need(bool(file.search.seeds), "search.seeds: must name at least one")
    need(len(set(file.search.seeds)) == len(file.search.seeds), "search.seeds: names one twice")


def need(holds: bool, message: str) -> None:
    """Raise UserError unless something holds."""
    if not holds:
        raise UserError(message)
