"""Files under a raw copy, and images with the masks that belong to them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from pathlib import Path

LITTER = ("__MACOSX", "Thumbs.db", "desktop.ini")


def files_under(folder: Path) -> list[Path]:
    """Every file of a tree, sorted; what archivers and file managers leave behind is passed over."""
    found = []
    for root, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in LITTER and not name.startswith(".")]
        found += [Path(root, name) for name in names if name not in LITTER and name[0] != "." and ":" not in name]
    return sorted(found)


def parts_below(path: Path, raw: Path) -> tuple[str, ...]:
    """The names of the folders between `raw` and a file, in lower case, `raw`'s own first."""
    return tuple(part.lower() for part in (raw.resolve().name, *path.relative_to(raw).parts[:-1]))


def by_key(paths: Iterable[Path], key: Callable[[Path], str], problems: list[str]) -> dict[str, Path]:
    """Paths by their case; a second path of one case is a problem."""
    found: dict[str, Path] = {}
    for path in paths:
        if found.setdefault(key(path), path) != path:
            problems.append(f"{path}: case '{key(path)}' is there already ({found[key(path)]}); remove one of them")
    return found


def partners(
    images: dict[str, Path], masks: dict[str, Path], others: Iterable[Path], problems: list[str]
) -> list[tuple[str, Path, Path]]:
    """Cases that have an image and a mask, sorted by name; what lacks the other is a problem.

    Args:
        images, masks: files by their case.
        others: files that are neither, among which a renamed one may be found.
        problems: lines are added to it.
    """
    rest = {other.name: other for other in others}
    for key in sorted(images.keys() - masks.keys()):
        problems.append(f"{images[key]}: has no mask; add it or take the image out{_renamed(images[key], rest)}")
    for key in sorted(masks.keys() - images.keys()):
        problems.append(f"{masks[key]}: has no image; add it or take the mask out{_renamed(masks[key], rest)}")
    return [(key, images[key], masks[key]) for key in sorted(images.keys() & masks.keys())]


def _renamed(path: Path, rest: dict[str, Path]) -> str:
    """A hint where a file of a like name lies about."""
    close = get_close_matches(path.name, list(rest), n=1, cutoff=0.6)
    return f" (is it {rest[close[0]]}, renamed?)" if close else ""
