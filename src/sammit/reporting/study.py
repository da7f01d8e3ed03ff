"""The report of a study: methods by unseen sites by seeds, as tables for readers and machines and as one HTML file.

What a cell is, see `StudyCell`. Cells that are not there yet are shown as missing; the report can be written at any
time, and again when more cells are there.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sammit.files import write_atomically
from sammit.reporting.noninferiority import check_margin
from sammit.reporting.study_cells import StudyCell, read_cells
from sammit.reporting.study_csv import against_csv, differences_csv, methods_csv, scores_csv
from sammit.reporting.study_figures import against_bytes
from sammit.reporting.study_html import study_page
from sammit.reporting.study_paper import NO_PAPER, Paper, read_paper
from sammit.reporting.study_results import Result, make_result
from sammit.reporting.study_scores import make_blocks
from sammit.reporting.study_text import latex, markdown
from sammit.reporting.study_versus import check_pairs, check_reference
from sammit.reporting.svg import Picture, to_file

__all__ = ["StudyCell", "Written", "write_study"]


@dataclass(frozen=True)
class Written:
    """What `write_study` left.

    Attributes:
        files: written, the report last.
        missing: cells without a finished run.
    """

    files: tuple[Path, ...]
    missing: tuple[StudyCell, ...]


def write_study(
    cells: Sequence[StudyCell],
    out: Path,
    title: str,
    margin: float,
    pairs: Sequence[tuple[str, str]],
    paper: Path | None,
    reference: str = "",
) -> Written:
    """Write a study's tables, its pictures of Dice against bytes and its report into `out`.

    That is `table.csv`, `methods.csv`, `differences.csv`, `against-REFERENCE.csv` where there is a reference,
    `table.tex`, `table.md`, `dice-against-bytes*.svg` where two methods have a score, and `report.html`.

    Args:
        cells: all that the study asks for, finished or not; their order is that of rows, sites and datasets.
        out: the study's folder.
        title: stands above everything.
        margin: of non-inferiority, in Dice, above 0.
        pairs: keys of methods, (federated, centralised), whose difference is judged.
        paper: CSV of printed numbers (see `study_paper`), or None.
        reference: key of the method that every other is set against; "" for none.

    Raises:
        UserError: cells that cannot share a report, a run folder or a paper's table that cannot be read, a margin, a
            pair or a reference that cannot be right. Nothing is written then.
    """
    results = study_results(cells, margin, pairs, read_paper(paper) if paper else NO_PAPER, reference)
    there = {one.cell for result in results for one in result.block.finished}
    missing = tuple(cell for cell in cells if cell not in there)
    pictures = [against_bytes(result) for result in results]
    pages = {
        "table.tex": latex(results, title),
        "table.md": markdown(results, title, missing),
        "report.html": study_page(results, pictures, title, missing, out),
    }
    texts = _tables(results, reference) | _files(results, pictures) | pages
    for name, text in texts.items():
        write_atomically(out / name, text)
    return Written(tuple(out / name for name in texts), missing)


def study_results(
    cells: Sequence[StudyCell], margin: float, pairs: Sequence[tuple[str, str]], paper: Paper, reference: str
) -> list[Result]:
    """All numbers of a study, block by block; the arguments and the mistakes are those of `write_study`."""
    check_margin(margin)
    check_pairs(pairs, [cell.method for cell in cells])
    check_reference(reference, [cell.method for cell in cells])
    blocks = make_blocks(cells, read_cells(cells))
    return [make_result(block, pairs, margin, paper, reference) for block in blocks]


def _tables(results: Sequence[Result], reference: str) -> dict[str, str]:
    """File name -> what goes into it: numbers for a machine."""
    against = {f"against-{reference}.csv": against_csv(results)} if reference else {}
    return {
        "table.csv": scores_csv(results),
        "methods.csv": methods_csv(results),
        "differences.csv": differences_csv(results),
        **against,
    }


def _files(results: Sequence[Result], pictures: Sequence[Picture | None]) -> dict[str, str]:
    """File name -> what goes into it: the picture of each block that has one."""
    names = [re.sub(r"\W+", "-", result.block.title).strip("-").lower() for result in results]
    return {
        f"dice-against-bytes-{name}.svg": to_file(picture)
        for name, picture in zip(names, pictures, strict=True)
        if picture
    }
