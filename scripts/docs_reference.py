"""The reference pages of the site, made of what the program itself says: its commands, settings and plugins.

Each function of `PAGES` returns Markdown; `docs_hook` puts it where a page has the line `<!-- reference: NAME -->`.
"""

from __future__ import annotations

import ast
import inspect
import io
import json
import re
import textwrap
import tokenize
import types
import typing
from collections.abc import Callable, Iterable, Iterator
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from typing import Any, Literal

import click
from typer.main import get_command

from sammit import config, plugins
from sammit.cli import app

WORDS = {bool: "true or false", int: "whole number", float: "number", str: "text", tuple: "list", dict: "table"}


@dataclass(frozen=True)
class Setting:
    """A key of a recipe, or of any other table.

    Attributes:
        values: what it may be, for a reader.
        default: as TOML.
        meaning: the comment that stands beside it.
    """

    name: str
    values: str
    default: str
    meaning: str


def commands_of(command: click.Command, path: str = "sammit") -> Iterator[tuple[str, click.Command]]:
    """A command and all below it, by what is typed."""
    yield path, command
    for name, below in getattr(command, "commands", {}).items():
        yield from commands_of(below, f"{path} {name}")


def commands() -> str:
    """Every command: its help, arguments and options."""
    return "\n\n".join(_command(path, command) for path, command in commands_of(get_command(app)))


def _command(path: str, command: click.Command) -> str:
    usage = " ".join([path, *command.collect_usage_pieces(click.Context(command, info_name=path))])
    rows = [(_named(one), _default(one), getattr(one, "help", None) or "") for one in command.params]
    parts = [
        f"{'##' if path.count(' ') < 2 else '###'} {path}",
        inspect.cleandoc(command.help or ""),
        f"```text\n{usage}\n```",
        _table(("", "default", ""), rows) if rows else "",
    ]
    return "\n\n".join(part for part in parts if part)


def _named(parameter: click.Parameter) -> str:
    """`--out PATH`, or an argument's metavar."""
    if isinstance(parameter, click.Argument):
        return _code(parameter.make_metavar(click.Context(click.Command(""))))
    flag = getattr(parameter, "is_flag", False)
    names = " / ".join([*parameter.opts, *parameter.secondary_opts])
    return _code(names if flag else f"{names} {parameter.make_metavar(click.Context(click.Command('')))}")


def _default(parameter: click.Parameter) -> str:
    if parameter.required:
        return "needed"
    value = parameter.default
    nothing = value is None or value == "" or value == [] or value is False or "UNSET" in repr(value)
    return "" if nothing or callable(value) else _code(str(value))


def settings() -> str:
    """Every table of a recipe, key by key."""
    tables = [("", config.Experiment), *((f.name, _kind_of(f)) for f in fields(config.Experiment) if _is_table(f))]
    return "\n\n".join(
        f"## {f'[{name}]' if name else 'Above the tables'}\n\n{_settings_table(settings_of(kind))}"
        for name, kind in tables
    )


def _is_table(one: Field[Any]) -> bool:
    return is_dataclass(_kind_of(one))


def _kind_of(one: Field[Any]) -> Any:
    return typing.get_type_hints(config.Experiment)[one.name]


def settings_of(kind: type) -> list[Setting]:
    """The keys of a dataclass, inherited ones first, without those that are tables of their own."""
    said: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if is_dataclass(base):
            said |= comments_of(inspect.getsource(base))
    hints = typing.get_type_hints(kind)
    plain = [one for one in fields(kind) if not is_dataclass(hints[one.name])]
    return [Setting(one.name, _values(hints[one.name]), _shown(one), said.get(one.name, "")) for one in plain]


def comments_of(source: str) -> dict[str, str]:
    """Field -> the comments on its lines, of the source of one class."""
    source = textwrap.dedent(source)
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    comments = {token.start[0]: token.string.lstrip("# ") for token in tokens if token.type == tokenize.COMMENT}
    (body,) = ast.parse(source).body
    return {
        node.target.id: " ".join(comments[line] for line in _lines(node) if line in comments)
        for node in getattr(body, "body", [])
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }


def _lines(node: ast.AnnAssign) -> range:
    return range(node.lineno, (node.end_lineno or node.lineno) + 1)


def _values(hint: Any) -> str:
    """What a key may be."""
    origin = typing.get_origin(hint)
    if origin is Literal:
        return ", ".join(_code(json.dumps(value)) for value in typing.get_args(hint))
    if origin in (typing.Union, types.UnionType):
        return " or ".join(WORDS[one] for one in typing.get_args(hint))
    if origin is tuple:
        return f"list of {WORDS[typing.get_args(hint)[0]].removeprefix('whole ')}s"
    return WORDS[origin or hint]


def _shown(one: Field[Any]) -> str:
    """The default, as TOML."""
    value = one.default if one.default is not MISSING else one.default_factory()  # type: ignore[misc]
    return _code(json.dumps(value))


def plugins_of(kind: str) -> str:
    """Every plugin of a kind: what its file says of itself, and its options."""
    return "\n\n".join(_plugin(kind, row) for row in plugins.describe(kind))


def _plugin(kind: str, row: dict[str, Any]) -> str:
    module = plugins.load(kind, row["name"])
    said = [f"- {key}: {_escaped(row[key])}" for key in ("paper", "travels", "stays", "exact", "needs") if key in row]
    options = getattr(module, "Options", None)
    keys = settings_of(options) if options is not None and is_dataclass(options) else []
    parts = [
        f"### {row['name']}",
        "\n".join(said),
        _prose(inspect.getdoc(module) or ""),
        _settings_table(keys) if keys else "",
    ]
    return "\n\n".join(part for part in parts if part)


def _prose(text: str) -> str:
    """A docstring as Markdown: what is indented stays as it is typed."""
    parts = re.split(r"\n{2,}", re.sub(r"^((?!- ).+)\n(?=- )", r"\1\n\n", text, flags=re.MULTILINE))
    return "\n\n".join(_as_typed(part) if part.startswith("  ") else _escaped(part) for part in parts)


def _as_typed(text: str) -> str:
    return f"```text\n{textwrap.dedent(text)}\n```"


def _settings_table(keys: Iterable[Setting]) -> str:
    rows = [(_code(key.name), key.values, key.default, _escaped(key.meaning)) for key in keys]
    return _table(("key", "values", "default", ""), rows)


def models() -> str:
    """Every model by its name."""
    from sammit.models.build import MODELS

    return _table(("name", ""), [(_code(name), _escaped(size.summary)) for name, size in MODELS.items()])


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _code(text: str) -> str:
    """Code that may stand in a cell of a table: a bar inside would end the cell."""
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace("|", "&#124;")
    return f"<code>{escaped}</code>"


def _escaped(text: str) -> str:
    """Text that means nothing to Markdown but for its code."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(part if part.startswith("`") else re.sub(r"[<|*_]", _entity, part) for part in parts)


def _entity(sign: re.Match[str]) -> str:
    return f"&#{ord(sign[0])};"


PAGES: dict[str, Callable[[], str]] = {
    "commands": commands,
    "settings": settings,
    "models": models,
    **{kind: (lambda kind=kind: plugins_of(kind)) for kind in plugins.KINDS},
}
"""What a page may ask for."""
