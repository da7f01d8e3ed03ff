"""The sites of a study: cases in each part, one case to look at, and every method's masks on that same case."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sammit.errors import UserError
from sammit.reporting import wording
from sammit.reporting.panels import Canvas, Panel, StoredCase, draw, make_canvas, read_case
from sammit.reporting.study_cells import Finished
from sammit.reporting.study_results import Result
from sammit.reporting.study_scores import Block

PARTS = ("train", "val", "test")
EXAMPLE = "example.npz"


@dataclass(frozen=True)
class SitePictures:
    """One case of a site.

    Attributes:
        site, case, structures: names.
        example: the image with the truth's contours, for the row of all sites.
        panels: the truth again, then each method's contours.
        lacking: a sentence for each method without a picture.
    """

    site: str
    case: str
    structures: tuple[str, ...]
    example: Panel
    panels: tuple[Panel, ...]
    lacking: tuple[str, ...]


def cases_by_part(block: Block) -> dict[str, dict[str, float]]:
    """site -> part -> cases, mean over the cells in which the site took part; empty where no cell kept its splits."""
    found: dict[str, list[dict[str, int]]] = {}
    for one in block.finished:
        for site, parts in _splits(one).items():
            if site != one.cell.unseen:
                found.setdefault(site, []).append({part: list(parts.values()).count(part) for part in PARTS})
    return {
        site: {part: sum(counts[part] for counts in found[site]) / len(found[site]) for part in PARTS}
        for site in dict.fromkeys([*block.sites, *found])
        if site in found
    }


def _splits(one: Finished) -> Mapping[str, Mapping[str, str]]:
    """site -> case -> part, as the run wrote it; {} where it did not."""
    path = one.cell.folder / "splits.json"
    if not path.is_file():
        return {}
    try:
        splits = json.loads(path.read_text(encoding="utf-8"))
        return {site: dict(parts) for site, parts in splits.items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: no splits of a run ({error}); restore or remove it") from None


def site_pictures(result: Result, width: int, prefix: str) -> list[SitePictures]:
    """One case of each site under every method; sites without any picture are left out.

    The case is the one that most methods have a picture of; methods with another case, or none, are named.

    Args:
        result: of the block.
        width: largest width of a stored image, in pixels; 0: no pictures.
        prefix: makes ids unique on the page.
    """
    if not width:
        return []
    found = []
    for place, site in enumerate(result.block.sites):
        stored = {method: _example(result.block, method, site) for method in result.block.labels}
        known = [one.case for one in stored.values() if one is not None]
        if known:
            case = max(dict.fromkeys(known), key=known.count)
            found.append(_site(result, site, case, stored, f"{prefix}-{place}", width))
    return found


def _example(block: Block, method: str, site: str) -> StoredCase | None:
    """The stored example of a method at a site, from the first seed that has one."""
    folders = [
        one.cell.folder
        for one in sorted(block.finished, key=lambda one: one.cell.seed)
        if one.cell.method == method and site in one.entries
    ]
    paths: list[Path] = [folder / "pictures" / site / EXAMPLE for folder in folders]
    return next((read_case(path) for path in paths if path.is_file()), None)


def _site(
    result: Result, site: str, case: str, stored: Mapping[str, StoredCase | None], prefix: str, width: int
) -> SitePictures:
    """The panels of one site."""
    same = {method: one for method, one in stored.items() if one is not None and one.case == case}
    first = next(iter(same.values()))
    canvas = make_canvas(first.image, width, prefix)
    panels, lacking = [draw(canvas, first, "Truth", first.truth)], []
    for line in result.lines:
        model = line.judged[site].model
        one = same.get(line.method)
        if one is not None and model in one.masks:
            panels.append(_panel(canvas, one, line.label, model))
        else:
            lacking.append(f"{line.label} has no picture of this case.")
    example = draw(canvas, first, site, first.truth, ground=canvas.image)
    return SitePictures(site, case, first.structures, example, tuple(panels), tuple(lacking))


def _panel(canvas: Canvas, stored: StoredCase, label: str, model: str) -> Panel:
    """One method's masks; of several source models one alone can be drawn, and their score is a mean."""
    dice = stored.dice.get(model)
    score = "" if dice is None else f"Dice {wording.score(dice)}"
    if model == "sources":
        score += f"{', ' if score else ''}mean of the source models; the mask is one model's"
    return draw(canvas, stored, label, stored.masks[model], score)


def without_pictures(result: Result, shown: Sequence[SitePictures]) -> str:
    """Which sites have no picture; "" where all have one."""
    sites = [site for site in result.block.sites if site not in {one.site for one in shown}]
    return f"No run kept a picture ({EXAMPLE}) of {wording.listed(sites)}." if sites else ""
