"""The report of a study as one HTML file that asks the network for nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sammit.reporting import study_figures as figures
from sammit.reporting import study_method_figures as method_figures
from sammit.reporting import study_sentences as sentences
from sammit.reporting.case_by_case import CaseByCase, Scored, case_by_case
from sammit.reporting.pages import render
from sammit.reporting.rendering import Cell, Table, to_html
from sammit.reporting.study_cells import StudyCell
from sammit.reporting.study_results import Result
from sammit.reporting.study_sites import SitePictures, cases_by_part, site_pictures, without_pictures
from sammit.reporting.study_tables import beside_table, costs_table, scores_table, scores_tables
from sammit.reporting.study_versus_tables import against_table, pairs_table, ranking_table
from sammit.reporting.svg import Picture

LARGEST = 6_000_000
"""Bytes the report may have; pictures are made smaller, then left out, until it fits."""

CASES = 1_500_000
"""Bytes of the scores of single cases, all blocks together."""

_WIDTHS = (320, 224, 144, 0)  # of pictures, pixels


@dataclass(frozen=True)
class Shown:
    """A table as HTML with a name for its region; its notes stand below it."""

    name: str
    html: str
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Section:
    """One block as the template shows it; HTML and SVG in it are made here, everything else is escaped there.

    Attributes:
        title, anchor: heading and id.
        best, verdicts, sizes: sentences; doubts: what to be careful with.
        dice, others: tables of scores; `other_notes` are those of all others together.
        against, ranking, pairs, beside: comparisons, where there are any; costs. `against_reading` is a sentence.
        by_site, gaps, forest, bytes, counts: figures, where there is something to show.
        cases: what two methods are compared by case with, where there are two.
        pictures: one case of each site; `pictureless` names sites without; `left_out` says where size forbade them.
    """

    title: str
    anchor: str
    best: str
    verdicts: list[str]
    doubts: list[str]
    sizes: str
    dice: Shown
    others: list[Shown]
    other_notes: tuple[str, ...]
    against: Shown | None
    against_reading: str
    ranking: Shown | None
    pairs: Shown | None
    beside: Shown | None
    costs: Shown
    by_site: Picture | None
    gaps: Picture | None
    forest: Picture | None
    bytes: Picture | None
    counts: Picture | None
    cases: CaseByCase | None
    pictures: list[SitePictures]
    pictureless: str
    left_out: str


def study_page(
    results: Sequence[Result],
    pictures: Sequence[Picture | None],
    title: str,
    missing: Sequence[StudyCell],
    out: Path,
) -> str:
    """The page, with pictures of cases as large as its size allows.

    Args:
        results: of every block.
        pictures: Dice against bytes of each block.
        title: the heading.
        missing: cells without a finished run.
        out: the study's folder; cells' folders in it are named relative to it.
    """
    pairs = zip(results, pictures, strict=True)
    budget = CASES // max(1, len(results))
    plain = [_section(result, picture, f"part{place}", budget) for place, (result, picture) in enumerate(pairs)]
    cells = [cell for result in results for cell in result.block.cells]
    folders = to_html(_folders(cells, set(missing), out))
    for width in _WIDTHS:
        page = render(
            "study.html",
            title=title,
            what_ran=sentences.what_ran(results),
            missing=sentences.missing(missing),
            lost=[cell.name for cell in missing],
            sections=[_with_pictures(*pair, width) for pair in zip(plain, results, strict=True)],
            folders=folders,
        )
        if len(page.encode()) <= LARGEST:
            break
    return page


def _section(result: Result, against_bytes: Picture | None, anchor: str, budget: int) -> Section:
    """A block without its pictures, whose size is not known before the page's is."""
    block = result.block
    rest = [metric for metric in block.metrics if metric != "dice"]
    dice, *others = scores_tables(result, ["dice"])
    others += [table for metric in rest for table in scores_tables(result, [metric])]
    return Section(
        title=block.title,
        anchor=anchor,
        best=sentences.best(result),
        verdicts=[sentences.verdict(result, pair) for pair in result.pairs],
        doubts=sentences.doubts(result),
        sizes=sentences.sizes(result),
        dice=_shown(dice),
        others=[_shown(table) for table in others],
        other_notes=scores_table(result, rest).notes,
        against=_shown_if(against_table(result)),
        against_reading=sentences.against(result),
        ranking=_shown_if(ranking_table(result)),
        pairs=_shown_if(pairs_table(result)),
        beside=_shown_if(beside_table(result)),
        costs=_shown(costs_table(result)),
        by_site=method_figures.dice(result),
        gaps=method_figures.against(result),
        forest=figures.differences(result),
        bytes=against_bytes,
        counts=figures.counts(block.title, cases_by_part(block)),
        cases=case_by_case(_scored(result), budget),
        pictures=[],
        pictureless="",
        left_out="",
    )


def _scored(result: Result) -> Scored:
    """Every case of a block under every method; the best and the reference, or the second best, are shown first."""
    block = result.block
    methods = {
        method: {
            (site, f"seed {seed}"): scores
            for site in block.sites
            for seed, scores in block.judged[method, site].by_seed.items()
        }
        for method in block.labels
    }
    ranked = [line.method for line in sorted(result.lines, key=lambda line: -(result.headline(line).mean or 0.0))]
    unit = "" if block.mixed_units else "".join(set(block.units.values()))
    first = [ranked[0], result.reference, *ranked]
    return Scored(methods, block.labels, block.sites, block.structures, unit, first)


def _shown(table: Table) -> Shown:
    return Shown(table.caption.rstrip("."), to_html(table), table.notes)


def _shown_if(table: Table | None) -> Shown | None:
    return None if table is None else _shown(table)


def _with_pictures(section: Section, result: Result, width: int) -> Section:
    """The section with pictures of at most `width` pixels (0: none)."""
    if not width:
        return replace(section, left_out="Pictures were left out to keep this file small.")
    pictures = site_pictures(result, width, f"{section.anchor}-site")
    return replace(section, pictures=pictures, pictureless=without_pictures(result, pictures))


def _folders(cells: Sequence[StudyCell], missing: set[StudyCell], out: Path) -> Table:
    """Every cell with its folder and whether it is there."""
    columns = (("dataset", "Dataset"), ("method", "Method"), ("unseen", "Unseen site"), ("seed", "Seed"),
               ("state", "State"), ("folder", "Run folder"))  # fmt: skip
    rows = tuple(
        tuple(
            Cell(text, text)
            for text in (
                cell.dataset,
                cell.label,
                cell.unseen or "none",
                str(cell.seed),
                "missing" if cell in missing else "finished",
                str(cell.folder.relative_to(out) if cell.folder.is_relative_to(out) else cell.folder),
            )
        )
        for cell in cells
    )
    return Table("Every run of the study; its folder has its own report.", columns, rows)
