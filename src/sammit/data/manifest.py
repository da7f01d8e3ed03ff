"""manifest.csv with columns image, mask, and maybe patient, split, site.

Paths start from the manifest's folder; several, joined by ";", are the channels of an image, or a mask for each
structure. `split` is train, val or test. Other columns are passed over. With the column `site` the folder holds several
sites and is itself a data root.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import get_args

from sammit.data.layouts import Found
from sammit.data.listing import Line, found_in, plain_path
from sammit.data.settings import Settings
from sammit.errors import UserError
from sammit.vocabulary import Part

LISTS = True
FILE = "manifest.csv"
_COLUMNS = ("image", "mask", "patient", "split", "site")


def matches(folder: Path, settings: Settings) -> bool:
    """Whether the folder has a manifest."""
    return (folder / FILE).is_file()


def cases_of(folder: Path, settings: Settings) -> Found:
    """The cases of a manifest of one site."""
    rows = list(_rows(folder / FILE))
    sites = sorted({site for site, _ in rows})
    if len(sites) > 1:
        raise UserError(
            f"{folder / FILE}: lists {len(sites)} sites; use its folder as data root, or a manifest for each"
        )
    return found_in(folder, [line for _, line in rows], settings)


def sites_of(root: Path, settings: Settings) -> dict[str, Found]:
    """The sites of a manifest with the column `site`, by name; none where it has no such column."""
    lines: dict[str, list[Line]] = {}
    for site, line in _rows(root / FILE):
        lines.setdefault(site, []).append(line)
    return {site: found_in(root, lines[site], settings) for site in sorted(lines) if site}


def _rows(path: Path) -> Iterator[tuple[str, Line]]:
    """Each row's site ("" without such a column) and case."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as text ({type(error).__name__}); save it as CSV in UTF-8") from None
    head = text.partition("\n")[0]
    delimiter = next((sign for sign in ",;\t" if sign in head), ",")
    reader = csv.reader(text.splitlines(), delimiter=delimiter)
    columns = _columns(path, next(reader, []))
    for row in reader:
        if any(cell.strip() for cell in row):
            yield _row(f"{path}, line {reader.line_num}", dict(zip(columns, row, strict=False)), "site" in columns)


def _columns(path: Path, head: list[str]) -> list[str]:
    columns = [cell.strip().lower() for cell in head]
    for column in ("image", "mask"):
        if column not in columns:
            raise UserError(
                f"{path}: has no column '{column}'; its first line names the columns: {', '.join(_COLUMNS)}"
            )
    for column in columns:
        meant = get_close_matches(column, _COLUMNS, n=1, cutoff=0.8)
        if columns.count(column) > 1 and column in _COLUMNS:
            raise UserError(f"{path}: has the column '{column}' twice; rename one")
        if meant and column not in _COLUMNS:
            raise UserError(f"{path}: unknown column '{column}': did you mean '{meant[0]}'?")
    return columns


def _row(where: str, cells: dict[str, str], sited: bool) -> tuple[str, Line]:
    image, masks = (
        tuple(plain_path(text) for text in cells.get(name, "").split(";") if text.strip()) for name in _COLUMNS[:2]
    )
    split, site = cells.get("split", "").strip(), cells.get("site", "").strip()
    parts: dict[str, Part] = {part: part for part in get_args(Part)}
    if not image:
        raise UserError(f"{where}: names no image; add its path, or remove the line")
    if split and split not in parts:
        raise UserError(f"{where}: the split '{split}' is none of {', '.join(parts)}; mend it, or leave it empty")
    if sited and (not site or site[0] in "._" or "/" in site):
        raise UserError(f"{where}: '{site}' cannot be a site's name; give one that could be a folder's")
    return site, Line(where, image, masks, cells.get("patient", "").strip(), parts.get(split))
