"""A study's tables as text: Markdown to read, LaTeX to print."""

from __future__ import annotations

from collections.abc import Sequence

from sammit.reporting import study_sentences as sentences
from sammit.reporting.rendering import Table, to_latex, to_markdown
from sammit.reporting.study_cells import StudyCell
from sammit.reporting.study_results import Result
from sammit.reporting.study_tables import beside_table, scores_tables
from sammit.reporting.study_versus_tables import against_table, pairs_table, ranking_table


def markdown(results: Sequence[Result], title: str, missing: Sequence[StudyCell]) -> str:
    """A heading and the tables of each dataset, then the cells that are missing."""
    parts = [f"# {title}\n", sentences.what_ran(results) + "\n"]
    for result in results:
        parts += [f"## {result.block.title}\n", sentences.sizes(result) + "\n"]
        parts += [to_markdown(table) for table in _tables(result)]
    if missing:
        names = "".join(f"- {cell.name}\n" for cell in missing)
        parts += ["## Missing\n", sentences.missing(missing) + "\n", names]
    return "\n".join(parts)


def latex(results: Sequence[Result], title: str) -> str:
    """One table after the other, for the booktabs package."""
    head = f"% {' '.join(title.split())}\n% Needs \\usepackage{{booktabs}} in the preamble.\n"
    return "\n".join([head, *(to_latex(table) for result in results for table in _tables(result))])


def _tables(result: Result) -> list[Table]:
    """All scores in one table, what was scored beside them, and the comparisons."""
    several = [beside_table(result), against_table(result), ranking_table(result), pairs_table(result)]
    return [*scores_tables(result, result.block.metrics), *(table for table in several if table is not None)]
