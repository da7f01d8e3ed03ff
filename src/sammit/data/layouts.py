"""How folders of sites may be laid out. A layout is a module of this package with two functions:

    matches(folder, settings) -> bool      whether the folder is a site of this layout; looks, opens no image
    cases_of(folder, settings) -> Found    its cases, and everything that is wrong with its files

and maybe a third, where one folder may hold several sites:

    sites_of(root, settings) -> {name: Found}    the sites; none where the folder is itself one

Adding a layout is adding such a module; its name is the layout's name, its docstring's first line its description.
Where a folder fits several, one that says `LISTS = True` wins: who adds a list of files to them means the list.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from types import ModuleType
from typing import Any

from sammit.data.settings import Settings
from sammit.errors import UserError
from sammit.vocabulary import Case, Part


@dataclass(frozen=True)
class Found:
    """What a layout found in a site's folder.

    Attributes:
        cases: sorted by name; cases without truth have no masks.
        problems: one line for each file that does not fit, with its name and the mend.
        parts: the part of each case that the layout itself decides, by the case's name.
        structures: the structures that the layout itself names, where nothing else does.
        ignore: the label of unlabelled pixels that the layout itself names; -1: none.
    """

    cases: list[Case]
    problems: list[str] = field(default_factory=list)
    parts: Mapping[str, Part] = field(default_factory=dict)
    structures: Mapping[str, Any] = field(default_factory=dict)
    ignore: int = -1


@cache
def layouts() -> dict[str, ModuleType]:
    """The layouts that there are, by name, in the order in which they are tried."""
    package = __name__.rpartition(".")[0]
    names = [module.name for module in iter_modules(import_module(package).__path__)]
    modules = {name: import_module(f"{package}.{name}") for name in names if name != "layouts"}
    found = [(name, module) for name, module in modules.items() if hasattr(module, "matches")]
    return dict(sorted(found, key=lambda pair: (not getattr(pair[1], "LISTS", False), pair[0])))


def layout_of(folder: Path, settings: Settings) -> str | None:
    """The name of the layout that fits a folder, or None."""
    return next((name for name, module in layouts().items() if module.matches(folder, settings)), None)


def find_sites(root: Path, settings: Settings) -> tuple[str, dict[str, Found]]:
    """The layout of a data root that itself describes several sites, and those; ("", {}) for any other folder."""
    name = layout_of(root, settings)
    if name is None or not hasattr(layouts()[name], "sites_of"):
        return "", {}
    return name, layouts()[name].sites_of(root, settings)


def find_cases(folder: Path, settings: Settings) -> tuple[str, Found]:
    """The layout's name and what it found in a site's folder.

    Raises:
        UserError: no layout fits the folder; the message lists what would.
    """
    name = layout_of(folder, settings)
    if name is None:
        known = "; ".join(
            f"{name}: {(module.__doc__ or '').strip().splitlines()[0].rstrip('.')}"
            for name, module in layouts().items()
        )
        raise UserError(f"{folder}: fits no known layout ({known}); rearrange it, or name the sites in data.sites")
    found: Found = layouts()[name].cases_of(folder, settings)
    return name, found
