"""TOML tables become dataclasses and back: values are checked against types, every message has the mend."""

from __future__ import annotations

import tomllib
import types
import typing
from dataclasses import MISSING, asdict, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from sammit.errors import UserError, nearest

T = TypeVar("T")


def build(kind: type[T], table: dict[str, Any], where: str) -> T:
    """Make a dataclass of a TOML table, each value checked against the field's type.

    Args:
        kind: a dataclass whose fields all have defaults.
        table: what the file says.
        where: the table's dotted name, for messages ("training", "method"); "" for the top.

    Raises:
        UserError: an unknown key (with the nearest known one) or a value of another type.
    """
    hints = typing.get_type_hints(kind)
    known = [f.name for f in fields(kind)]  # type: ignore[arg-type]
    values: dict[str, Any] = {}
    for key, value in table.items():
        dotted = f"{where}.{key}" if where else key
        if key not in known:
            raise UserError(f"unknown key '{dotted}': {nearest(key, known)}")
        values[key] = _convert(hints[key], value, dotted)
    return kind(**values)


def _convert(hint: Any, value: Any, where: str) -> Any:
    """A TOML value as the type that a field asks for."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if is_dataclass(hint):
        if not isinstance(value, dict):
            raise UserError(f"{where}: must be a table")
        return build(typing.cast(type, hint), value, where)
    if origin is Literal:
        if isinstance(value, int) and str(value) in arguments:  # axis = 0 for axis = "0"
            return str(value)
        if value not in arguments:
            raise UserError(f"{where}: '{value}' is none of {', '.join(map(repr, arguments))}")
        return value
    if origin is tuple:
        items = value if isinstance(value, list | tuple) else [value]
        return tuple(_convert(arguments[0], item, where) for item in items)
    if origin in (dict, types.GenericAlias) or hint is dict:
        if not isinstance(value, dict):
            raise UserError(f"{where}: must be a table")
        return value
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise UserError(f"{where}: must be {_WORDS.get(hint) or hint.__name__}, not {value!r}")
    return value


_WORDS = {
    int: "a whole number",
    float: "a number",
    str: "text in quotes",
    bool: "true or false",
    int | str: "a whole number or text in quotes",
}


def read_toml(path: Path) -> dict[str, Any]:
    """A TOML file as a dictionary; raises UserError where there is none or it cannot be read."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file; check the path") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a TOML file ({error}): mend that line") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); give a TOML file") from None


def to_toml(config: Any) -> str:
    """A dataclass as TOML; `recipe.experiment_from(tomllib.loads(...))` gives it back."""
    import tomli_w

    return tomli_w.dumps(_plain(asdict(config)))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple | list) else value


def defaults(kind: type) -> dict[str, Any]:
    """The default of every field of a dataclass, for help texts."""
    plain = {f.name: f.default for f in fields(kind) if f.default is not MISSING}
    return plain | {f.name: f.default_factory() for f in fields(kind) if f.default_factory is not MISSING}
