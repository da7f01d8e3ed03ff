"""An experiment from a recipe and `--set`.

A recipe is shorter than the dataclasses: in `[method]`, every key but `name` and `aggregator` is one of the method's
options; in `[model]`, a sub-table is an adapter's.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sammit.config import Experiment
from sammit.errors import UserError
from sammit.shipped import shipped
from sammit.toml import build, read_toml


def with_settings(table: dict[str, Any], settings: list[str]) -> dict[str, Any]:
    """A copy of `table` with each "TABLE.KEY=VALUE" of `settings` put in; VALUE is TOML, or else plain text.

    Keys of `[method]` other than its own fields are the method's options, and sub-tables of `[model]` an adapter's:
    `method.shared=full` is `method.options.shared=full`, whichever of the two the recipe has.
    """
    result = _with_options(table)
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals or not key.strip():
            raise UserError(f"--set {setting}: must be TABLE.KEY=VALUE, such as training.rounds=3")
        try:
            value = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            value = text
        _put(result, key.strip(), value, f"--set {setting}")
    return result


def with_values(table: dict[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """The same with values of Python, by "TABLE.KEY"."""
    result = _with_options(table)
    for key, value in values.items():
        if isinstance(value, Mapping) and "." not in key:
            raise UserError(f"settings: '{key}' is a table; set its keys, such as 'training.rounds'")
        _put(result, key, value, f"settings: {key}")
    return result


def _put(table: dict[str, Any], key: str, value: Any, where: str) -> None:
    """Put a value at its place, "TABLE.KEY"; `where` is for the message."""
    *tables, last = _in_options(key.split("."))
    for name in tables:
        table = table.setdefault(name, {})
        if not isinstance(table, dict):
            raise UserError(f"{where}: '{name}' is a value, not a table")
    table[last] = value


def with_method(table: dict[str, Any], name: str) -> dict[str, Any]:
    """A copy of `table` with the method `name`: the options of another one are left out, the aggregator's stay."""
    result = _with_options(table)
    said = result.setdefault("method", {})
    if not isinstance(said, dict):
        return result  # what is wrong of it, `build` says
    if said.get("name", name) != name and isinstance(said.get("options"), dict):
        said["options"] = {key: value for key, value in said["options"].items() if key == said.get("aggregator")}
    said["name"] = name
    return result


def _deep_copy(table: dict[str, Any]) -> dict[str, Any]:
    return {key: _deep_copy(value) if isinstance(value, dict) else value for key, value in table.items()}


def experiment_from(table: dict[str, Any]) -> Experiment:
    """An experiment from a recipe's tables.

    In `[method]`, every key but `name` and `aggregator` is one of the method's options; in `[model]`, a sub-table is
    an adapter's.
    """
    return build(Experiment, _with_options(table), "").check()


def _with_options(table: dict[str, Any]) -> dict[str, Any]:
    """A copy of a recipe's tables with the options of method and adapters where the dataclasses have them."""
    result = _deep_copy(table)
    for name, own in result.items():
        if name not in ("method", "model") or not isinstance(own, dict) or not isinstance(own.get("options", {}), dict):
            continue  # what is wrong of it, `build` says
        moved = [key for key, value in own.items() if _is_option(name, key, isinstance(value, dict))]
        options = {**own.pop("options", {}), **{key: own.pop(key) for key in moved}}
        result[name] = {**own, "options": options}
    return result


def _in_options(path: list[str]) -> list[str]:
    """method.KEY -> method.options.KEY, model.ADAPTER.KEY -> model.options.ADAPTER.KEY; all else as it is."""
    option = len(path) > 1 and _is_option(path[0], path[1], len(path) > 2)
    return [path[0], "options", *path[1:]] if option else path


def _is_option(table: str, key: str, is_table: bool) -> bool:
    """Whether a key of a recipe's table belongs into its `options`."""
    return (table == "method" and key not in ("name", "aggregator", "options")) or (
        table == "model" and is_table and key != "options"
    )


def load_experiment(path: Path, settings: list[str] | None = None) -> Experiment:
    """The experiment that a recipe and `--set` overrides describe; raises UserError with the mend."""
    if not path.exists() and path.as_posix() in shipped():
        raise UserError(f"{path}: there is no such file here; `sammit recipes .` writes those that come with Sammit")
    return experiment_from(with_settings(read_toml(path), settings or []))
