"""What a published dataset is to Sammit. A dataset is a module of this package with

    SOURCE, LICENCE, CITATION    texts: the official pages, the terms, whom to cite
    LAYOUT                       text: what a raw copy looks like, for whoever named the wrong folder
    OPTIONS                      what `--option KEY=VALUE` may say, by key
    survey(raw, options)         what of it is under `raw`; reads names and headers, and writes nothing

Adding a dataset is adding such a module; its name is the dataset's name, its docstring's first line its description.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sammit.data.prepare.pieces import Picture, Volume
from sammit.errors import UserError, nearest


@dataclass(frozen=True)
class Option:
    """A choice left to the user.

    Attributes:
        default: the value where nothing is said.
        meaning: one line for the help.
        choices: the known values; empty: any text, which the dataset checks itself.
        several: whether a list of choices may be given, with commas between them.
    """

    default: str
    meaning: str
    choices: tuple[str, ...] = ()
    several: bool = False


@dataclass(frozen=True)
class Item:
    """A case that could be written.

    Attributes:
        site, name: where it goes; the name is unique at its site and becomes the files' stem.
        read: opens the raw files and checks them against each other. Called once to check and once to write.
    """

    site: str
    name: str
    read: Callable[[], Picture | Volume]


@dataclass
class Survey:
    """What a dataset found in a raw copy.

    Attributes:
        settings: the root's `dataset.toml`.
        wanted: the sites that were looked for, with the number of cases in the public release; None where unknown.
        items: the cases found.
        problems: a line for each file that does not fit, with its name and the mend; one is enough to refuse.
        warnings: a line for each thing worth knowing that hinders nothing.
        site_settings: a site's own `dataset.toml`, where it has one.
    """

    settings: Mapping[str, Any]
    wanted: Mapping[str, int | None]
    items: list[Item] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    site_settings: dict[str, Mapping[str, Any]] = field(default_factory=dict)


def choose(options: Mapping[str, Option], given: Iterable[str]) -> dict[str, str]:
    """The value of every option, from `KEY=VALUE` texts and the defaults.

    Raises:
        UserError: an unknown key or value, with the nearest known one.
    """
    chosen = {key: option.default for key, option in options.items()}
    for text in given:
        key, sign, value = text.partition("=")
        if key not in options:
            raise UserError(f"--option {text}: unknown option '{key}': {nearest(key, list(options))}")
        if not sign or not value:
            raise UserError(f"--option {text}: must be KEY=VALUE, such as {key}={options[key].default}")
        chosen[key] = value
        for word in words(value) if options[key].several else [value]:
            if options[key].choices and word not in options[key].choices:
                hint = nearest(word, list(options[key].choices))
                raise UserError(f"--option {text}: unknown {key} '{word}': {hint}")
    return chosen


def words(value: str) -> list[str]:
    """The parts of a list with commas, without doubles, in their order."""
    return list(dict.fromkeys(word.strip() for word in value.split(",") if word.strip()))
