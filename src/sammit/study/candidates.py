"""The candidates of a search: equally many of every method, and which of them was chosen where."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from sammit.study.layers import Tables
from sammit.study.schema import File, Search, need

MAY_DIFFER = ("model", "method", "training")
"""Tables that candidates may have: with other data or another scoring their scores would not compare."""


def check_search(file: File) -> None:
    """Raise UserError where `[search]` does not fit the rest of the file's top."""
    search = file.search
    need(search.budget >= 0, "search.budget: must be 1 or more, the candidates of every method")
    need(bool(search.budget) or search == Search(), "search.budget: is missing; say how many candidates a method has")
    need(bool(search.budget) or not file.chosen, "chosen: there is no [search] to choose by; take it out")
    need(not search.budget or file.kind == "scores", "search: a study of costs trains nothing; take it out")
    for key in ("scored", "unseen"):
        need(key not in search.evaluation, f"search.evaluation.{key}: the search itself says this; take it out")


def check_candidates(search: Search, method: str, others: Sequence[Tables]) -> tuple[Tables, ...]:
    """A method's candidates, its own tables as they are (nothing over them) the first.

    Raises:
        UserError: more or fewer than the budget, or one that changes what candidates must have in common.
    """
    where = f"methods.{method}.search"
    if not search.budget:
        need(not others, f"{where}: the study has no [search]; give it one with a budget")
        return ({},)
    need(
        len(others) + 1 == search.budget,
        f"{where}: with the method's own settings {len(others) + 1} candidates, but search.budget = {search.budget} "
        f"for every method; list {search.budget - 1}",
    )
    for key, table in (item for tables in others for item in tables.items()):
        need(key in MAY_DIFFER, f"{where}: {key}: candidates may differ in {', '.join(MAY_DIFFER)} alone; take it out")
        need(isinstance(table, dict), f"{where}: {key}: must be a table")
    return ({}, *others)


def fingerprint(
    search: Search,
    common: Tables,
    datasets: Mapping[str, Tables],
    methods: Mapping[str, Tables],
    candidates: Mapping[str, Sequence[Tables]],
) -> str:
    """SHA-256 of all in a study that its search depends on."""
    everything = [asdict(search), common, datasets, methods, candidates]
    return sha256(json.dumps(everything, sort_keys=True, default=str).encode()).hexdigest()


@dataclass(frozen=True)
class Chosen:
    """What a search chose.

    Attributes:
        path: the file that says it.
        choices: dataset -> method -> unseen site, or "all" -> {"candidate": counted from 1, "tables": the candidate's}.
    """

    path: Path
    choices: Mapping[str, Any]

    def tables(self, dataset: str, method: str, unseen: str, candidates: Sequence[Tables]) -> Tables:
        """The tables of the chosen one of a method's candidates.

        Raises:
            UserError: the file does not say which, names no candidate, or shows other tables than the candidate's.
        """
        choice: Any = self.choices
        for key in (dataset, method, unseen or "all"):
            choice = choice.get(key, {}) if isinstance(choice, dict) else {}
        where = f"{self.path}: chosen.{dataset}.{method}.{unseen or 'all'}"
        need(bool(choice), f"{where}: is missing; search it too (sammit study STUDY --search)")
        numbered = dict(enumerate(candidates, start=1))
        number: Any = choice.get("candidate") if isinstance(choice, dict) else None
        need(number in numbered, f"{where}: there are candidates 1 to {len(candidates)}, not {number}")
        tables = numbered[number]
        need(
            choice.get("tables", {}) == tables,
            f"{where}: its tables are not candidate {number}'s; change candidates in the study, and search again",
        )
        return tables
