"""The report of a study: methods by unseen sites by seeds, as tables for readers and machines and as one HTML file.

What a cell is, see `StudyCell`. Cells that are not there yet are shown as missing; the report can be written at any
time, and again when more cells are there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sammit.files import write_atomically
from sammit.reporting.noninferiority import check_margin
from sammit.reporting.study_cells import StudyCell, read_cells
from sammit.reporting.study_csv import differences_csv, scores_csv
from sammit.reporting.study_html import study_page
from sammit.reporting.study_paper import NO_PAPER, read_paper
from sammit.reporting.study_results import Result, make_result
from sammit.reporting.study_scores import make_blocks
from sammit.reporting.study_text import latex, markdown
from sammit.reporting.study_versus import check_pairs

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
) -> Written:
    """Write `table.csv`, `differences.csv`, `table.tex`, `table.md` and `report.html` into `out`.

    Args:
        cells: all that the study asks for, finished or not; their order is that of rows, sites and datasets.
        out: the study's folder.
        title: stands above everything.
        margin: of non-inferiority, in Dice, above 0.
        pairs: keys of methods, (federated, centralised), whose difference is judged.
        paper: CSV of printed numbers (see `study_paper`), or None.

    Raises:
        UserError: cells that cannot share a report, a run folder or a paper's table that cannot be read, a margin or a
            pair that cannot be right. Nothing is written then.
    """
    check_margin(margin)
    check_pairs(pairs, [cell.method for cell in cells])
    printed = read_paper(paper) if paper else NO_PAPER
    finished = read_cells(cells)
    results = [make_result(block, pairs, margin, printed) for block in make_blocks(cells, finished)]
    there = {one.cell for one in finished}
    missing = tuple(cell for cell in cells if cell not in there)
    texts = _texts(results, title, missing, out)
    for name, text in texts.items():
        write_atomically(out / name, text)
    return Written(tuple(out / name for name in texts), missing)


def _texts(results: Sequence[Result], title: str, missing: Sequence[StudyCell], out: Path) -> dict[str, str]:
    """File name -> what goes into it."""
    return {
        "table.csv": scores_csv(results),
        "differences.csv": differences_csv(results),
        "table.tex": latex(results, title),
        "table.md": markdown(results, title, missing),
        "report.html": study_page(results, title, missing, out),
    }
