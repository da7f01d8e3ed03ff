"""From a name to a module, one level deep: a plugin's name is its file's name.

A file of the folder is a plugin when its top level defines the entry that its kind asks for; it is read, not
imported, to find that out, so that listing is quick.

A class that is no file, of a notebook's cell, say, can be `lent`: while that lasts it is found under the name that its
file would have. Nothing is kept of it: other threads, other processes and whatever comes after do not know it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import is_dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from sys import modules
from types import MappingProxyType, ModuleType
from typing import Any

from sammit.errors import UserError, nearest

KINDS = {
    "methods": ("sammit.methods", "Method"),
    "aggregators": ("sammit.methods.aggregators", "Aggregator"),
    "adapters": ("sammit.models.adapters", "Adapter"),
    "datasets": ("sammit.data", "cases_of"),
    "preparations": ("sammit.data.prepare", "survey"),
    "exports": ("sammit.exporting", "export"),
    "trackers": ("sammit.tracking", "Tracker"),
}

_LENT: ContextVar[Mapping[tuple[str, str], ModuleType]] = ContextVar("lent", default=MappingProxyType({}))
"""(kind, name) -> what a file with a lent class in it would be."""


def names(kind: str) -> list[str]:
    """The known names of a kind ("methods", "aggregators", "adapters", "datasets", ...), sorted."""
    return sorted({*_sources(kind), *(name for own, name in _LENT.get() if own == kind)})


def load(kind: str, name: str) -> ModuleType:
    """The module of a plugin; an unknown name is a UserError with the nearest known one."""
    known = names(kind)
    if name not in known:
        raise UserError(f"unknown {kind[:-1]} '{name}': {nearest(name, known)}")
    return _LENT.get().get((kind, name)) or import_module(f"{KINDS[kind][0]}.{name}")


@contextmanager
def lent(kind: str, classes: Iterable[type[Any]]) -> Iterator[None]:
    """While the context lasts, classes are found like the files of a kind, each under its `name_of`.

    Args:
        kind: one whose entry is a class.
        classes: each with its options, a dataclass `Options`, inside it, or those of the file that it inherits from.

    Raises:
        UserError: there is a file of this name, or no dataclass of options.
    """
    own = {(kind, name_of(one)): _as_file(kind, one) for one in classes}
    token = _LENT.set({**_LENT.get(), **own})
    try:
        yield
    finally:
        _LENT.reset(token)


def is_lent(kind: str, name: str) -> bool:
    """Whether a known name is of a class that is lent, not of a file."""
    return (kind, name) in _LENT.get()


def name_of(one: type[Any]) -> str:
    """The name of the file that a class would be: `OwnDecoder` is own_decoder."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", one.__name__).lower()


def _as_file(kind: str, one: type[Any]) -> ModuleType:
    """What importing a file would give that holds the class and its options."""
    name, (package, entry) = name_of(one), KINDS[kind]
    if name in _sources(kind):
        raise UserError(f"class {one.__name__}: {name} is a file of {package} already; give the class another name")
    options = _options_of(one, package)
    if not (isinstance(options, type) and is_dataclass(options)):
        raise UserError(f"class {one.__name__}: has no dataclass Options in it; add one, maybe without any field")
    module = ModuleType(name, one.__doc__)
    vars(module).update({entry: one, "Options": options})
    return module


def _options_of(one: type[Any], package: str) -> Any:
    """The `Options` inside a class or the nearest it inherits from, beside which a file of the package has its own."""
    for above in one.__mro__:
        beside = vars(modules[above.__module__]) if above.__module__.startswith(f"{package}.") else {}
        options = vars(above).get("Options") or beside.get("Options")
        if options is not None:
            return options
    return None


def describe(kind: str) -> list[dict[str, Any]]:
    """What a listing shows of each plugin: name, summary, and its top-level text constants in lower case."""
    rows = []
    for name, tree in sorted(_sources(kind).items()):
        summary = (ast.get_docstring(tree) or "").partition("\n")[0].rstrip(".:")
        rows.append({"name": name, "summary": summary, **_constants(tree)})
    return rows


@cache
def _sources(kind: str) -> dict[str, ast.Module]:
    """Name -> syntax tree of every plugin of a kind."""
    package, entry = KINDS[kind]
    spec = find_spec(package)
    folder = Path((spec.submodule_search_locations or [""])[0]) if spec else Path()
    found = {}
    for path in sorted(folder.glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        defined = {node.name for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)}
        if entry in defined and path.stem != "base":
            found[path.stem] = tree
    return found


def _constants(tree: ast.Module) -> dict[str, str]:
    """Top-level `NAME = "text"` assignments, names in lower case."""
    return {
        target.id.lower(): node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for target in node.targets
        if isinstance(target, ast.Name) and target.id.isupper()
    }
