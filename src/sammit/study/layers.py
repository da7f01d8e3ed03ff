"""Tables over tables: how the layers of a study become one recipe, and where each `--set` belongs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sammit.errors import UserError, nearest
from sammit.recipe import with_settings

TABLES = ("data", "model", "method", "training", "evaluation")
"""The tables of a recipe; `[common]`, `[dataset.NAME]` and `[methods.NAME]` are made of them."""

Tables = dict[str, Any]


def normal(tables: Tables) -> Tables:
    """Options of method and adapters in one place, wherever a layer wrote them, so that layers can be joined."""
    return with_settings(tables, [])


def layered(below: Mapping[str, Any], above: Mapping[str, Any]) -> Tables:
    """`above` put over `below`: tables are joined, values replaced; `structures` are one value, not a table."""
    result = dict(below)
    for key, value in above.items():
        under = result.get(key)
        if isinstance(value, dict) and isinstance(under, dict) and key != "structures":
            value = layered(under, value)
        result[key] = value
    return result


def check_tables(tables: Any, where: str) -> None:
    """Raise UserError where `tables` are no recipe's, or say what the study itself says."""
    if not isinstance(tables, dict):
        raise UserError(f"{where}: must be a table of tables, such as [{where}.training]")
    for key, value in tables.items():
        if key not in TABLES:
            raise UserError(f"unknown key '{where}.{key}': {nearest(key, list(TABLES))}")
        if not isinstance(value, dict):
            raise UserError(f"{where}.{key}: must be a table")
    if "unseen" in tables.get("evaluation", {}):
        raise UserError(f"{where}.evaluation.unseen: the study's own `unseen` says this; take it out")
    if where != "common" and "root" in tables.get("data", {}):
        raise UserError(f"{where}.data.root: --data says this for all; take it out")


def sort_settings(settings: Sequence[str], methods: Mapping[str, Any]) -> tuple[dict[str, list[str]], list[str]]:
    """The settings of each method's own tables (methods.NAME.TABLE.KEY=VALUE), and those of all cells.

    Raises:
        UserError: no such table or method, or a key that has an option of its own.
    """
    own: dict[str, list[str]] = {}
    shared: list[str] = []
    for setting in settings:
        place, rest = shared, setting
        if setting.startswith("methods."):
            name, _, rest = setting.removeprefix("methods.").partition(".")
            if name not in methods:
                raise UserError(f"--set {setting}: there is no method '{name}': {nearest(name, list(methods))}")
            if not rest:
                raise UserError(f"--set {setting}: must be methods.NAME.TABLE.KEY=VALUE")
            place = own.setdefault(name, [])
        table = rest.partition("=")[0].partition(".")[0].strip()
        if table not in TABLES:
            raise UserError(f"--set {setting}: unknown table '{table}': {nearest(table, list(TABLES))}")
        if rest.startswith("evaluation.unseen"):
            raise UserError(f"--set {setting}: choose unseen sites with --unseen")
        place.append(rest)
    return own, shared


def check_taken_up(settings: Sequence[str], methods: Mapping[str, Tables]) -> None:
    """Raise UserError for a setting that every method overrules: it would be ignored in silence."""
    for setting in settings:
        asked = with_settings({}, [setting])
        if all(_overrules(tables, asked) for tables in methods.values()):
            key = setting.partition("=")[0].strip()
            raise UserError(f"--set {setting}: every method sets {key} itself; use --set methods.NAME.{setting}")


def _overrules(above: Mapping[str, Any], asked: Mapping[str, Any]) -> bool:
    """Whether `above` has the one key of `asked` with another value."""
    ((key, value),) = asked.items()
    if key not in above:
        return False
    under = above[key]
    return _overrules(under, value) if isinstance(value, dict) and isinstance(under, dict) and value else under != value
