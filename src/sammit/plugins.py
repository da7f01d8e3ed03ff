"""From a name to a module, one level deep: a plugin's name is its file's name.

A file of the folder is a plugin when its top level defines the entry that its kind asks for; it is read, not
imported, to find that out, so that listing is quick.
"""

from __future__ import annotations

import ast
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from sammit.errors import UserError, nearest

KINDS = {
    "methods": ("sammit.methods", "Method"),
    "aggregators": ("sammit.methods.aggregators", "Aggregator"),
    "adapters": ("sammit.models.adapters", "Adapter"),
    "datasets": ("sammit.data", "cases_of"),
    "preparations": ("sammit.data.prepare", "survey"),
    "exports": ("sammit.exporting", "export"),
}


def names(kind: str) -> list[str]:
    """The known names of a kind ("methods", "aggregators", "adapters", "datasets", ...), sorted."""
    return sorted(_sources(kind))


def load(kind: str, name: str) -> ModuleType:
    """The module of a plugin; an unknown name is a UserError with the nearest known one."""
    known = names(kind)
    if name not in known:
        raise UserError(f"unknown {kind[:-1]} '{name}': {nearest(name, known)}")
    return import_module(f"{KINDS[kind][0]}.{name}")


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
