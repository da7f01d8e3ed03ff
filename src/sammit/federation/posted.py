"""Messages as files: written without a copy in memory, and read without belief in what another end wrote.

Of an update only the header is read; its tensors stay in the file until someone asks for one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from sammit.federation.messages import KINDS, PARTS, content
from sammit.federation.stored import header_of, stored
from sammit.vocabulary import Failure, Message, Reply, Update


def post(message: Message | Reply, path: Path) -> int:
    """Write a message to a file; its bytes."""
    from safetensors.torch import save_file

    state, header = content(message)
    save_file(state, path, header)
    return path.stat().st_size


def read(path: Path) -> Any:
    """The message in a file.

    Raises:
        ValueError: the file holds none, or one with a field of another type than its kind has.
    """
    try:
        plain = json.loads(header_of(path)[0]["__metadata__"]["message"])
        kind = KINDS[plain.pop("is")]
    except (KeyError, TypeError, AttributeError, RecursionError, OSError):
        raise ValueError("no message") from None
    names = {field.name for field in fields(kind)}
    if set(plain) != names.difference(PARTS):
        raise ValueError(f"a {kind.__name__} with other fields")
    for name, value in plain.items():
        if name in FIELDS and not FIELDS[name](value):
            raise ValueError(f"a {kind.__name__} whose '{name}' is of another type")
    parts = dict(zip(PARTS, stored(path), strict=True))
    if any(tensors for part, tensors in parts.items() if part not in names):
        raise ValueError(f"a {kind.__name__} with tensors")
    kept = {part: tensors for part, tensors in parts.items() if part in names}
    return kind(**plain, **(kept if kind is Update else {part: dict(kept[part].items()) for part in kept}))


def read_reply(path: Path, site: str, round_index: int) -> Reply:
    """The reply in a file that came from a site; a Failure that says so where it is none, or another's."""
    try:
        reply = read(path)
    except ValueError as error:
        return Failure(site, round_index, f"sent what is no message ({error})")
    if not isinstance(reply, Reply):
        return Failure(site, round_index, f"answered with {type(reply).__name__}")
    if reply.site != site:
        return Failure(site, round_index, "answered in another site's name")
    return reply


def _text(value: object) -> bool:
    return isinstance(value, str) and len(value) <= 10_000


def _count(value: object) -> bool:
    return type(value) is int


def _numbers(value: object) -> bool:
    return isinstance(value, dict) and all(type(number) in (int, float) for number in value.values())


def _table(value: object) -> bool:
    return isinstance(value, dict)


def _texts(value: object) -> bool:
    return isinstance(value, list) and all(map(_text, value))


FIELDS: Mapping[str, Callable[[object], bool]] = {
    **dict.fromkeys(("site", "run", "kind", "fingerprint", "origin", "part", "base", "version", "reason"), _text),
    **dict.fromkeys(("round", "samples", "accepted"), _count),
    **dict.fromkeys(("metrics", "dice"), _numbers),
    **dict.fromkeys(("entry", "experiment"), _table),
    **dict.fromkeys(("planned", "trains"), lambda value: type(value) is bool),
    "structures": _texts,
}
"""What every field that is no tensor must be, whatever the kind."""
