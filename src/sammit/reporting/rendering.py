"""A table with a text for the reader and a number for the machine, as Markdown, CSV, LaTeX and HTML.

Markdown, LaTeX (booktabs) and HTML show the texts; CSV holds the numbers.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape


@dataclass(frozen=True)
class Cell:
    """One field: what is read, the number behind it (or the text itself), its sd over runs; strong: it stands out."""

    text: str
    value: float | str | None
    sd: float | None = None
    strong: bool = False


@dataclass(frozen=True)
class Table:
    """A table of cells.

    Attributes:
        caption: one sentence that says what is shown.
        columns: (name for CSV, heading for the reader), one for each field of a row.
        rows: cells, as many as columns.
        notes: sentences that belong under the table.
        totals: how many of the last rows sum up the others; they stay last however a reader sorts.
    """

    caption: str
    columns: tuple[tuple[str, str], ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()
    totals: int = 0

    def cell(self, row: str, column: str) -> Cell:
        """The cell of the row whose first text is `row`, in the column named `column`."""
        place = [name for name, _ in self.columns].index(column)
        return next(cells[place] for cells in self.rows if cells[0].text == row)


def to_markdown(table: Table) -> str:
    """GitHub's Markdown: the table, then its notes."""

    def line(texts: Sequence[str]) -> str:
        return "| " + " | ".join(text.replace("|", r"\|") for text in texts) + " |"

    rows = [line([f"**{c.text}**" if c.strong else c.text for c in cells]) for cells in table.rows]
    head = [line([title for _, title in table.columns]), line(["---"] * len(table.columns))]
    return "\n".join([table.caption, "", *head, *rows, "", *table.notes]) + "\n"


def to_csv(table: Table) -> str:
    """The numbers, unrounded; a column NAME with an sd anywhere is followed by NAME_sd."""
    spread = [any(cells[i].sd is not None for cells in table.rows) for i in range(len(table.columns))]
    names = [
        part for (name, _), sd in zip(table.columns, spread, strict=True) for part in [name, f"{name}_sd"][: 1 + sd]
    ]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    for cells in table.rows:
        fields = [part for c, sd in zip(cells, spread, strict=True) for part in [c.value, c.sd][: 1 + sd]]
        writer.writerow(["" if field is None else field for field in fields])
    return text.getvalue()


def to_latex(table: Table) -> str:
    """A LaTeX table for the booktabs package; small and tight where it has more than eight columns."""

    def line(texts: Sequence[str]) -> str:
        return "    " + " & ".join(texts) + r" \\"

    numeric = [any(_is_number(cells[i]) for cells in table.rows) for i in range(len(table.columns))]
    rows = [line([rf"\textbf{{{_tex(c.text)}}}" if c.strong else _tex(c.text) for c in row]) for row in table.rows]
    return "\n".join(
        [
            r"\begin{table}",
            r"  \centering",
            *([r"  \footnotesize", r"  \setlength{\tabcolsep}{3pt}"] if len(table.columns) > 8 else []),
            rf"  \caption{{{_tex(' '.join([table.caption, *table.notes]))}}}",
            rf"  \begin{{tabular}}{{{''.join('r' if right else 'l' for right in numeric)}}}",
            r"    \toprule",
            line([_tex(title) for _, title in table.columns]),
            r"    \midrule",
            *rows,
            r"    \bottomrule",
            r"  \end{tabular}",
            r"\end{table}",
            "",
        ]
    )


_TEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "–": "--", "<": "$<$", ">": "$>$",
    "\u00a0": "~", "†": r"$^\dagger$", "|": r"\textbar{}", "≈": r"$\approx$",
}  # fmt: skip


def _tex(text: str) -> str:
    return "".join(_TEX.get(letter, letter) for letter in text)


def to_html(table: Table) -> str:
    """A `<table>` with a caption and scoped headings; its first column names the row. Every text is escaped.

    It says what the page's script sorts and filters by: the number behind a text, and which column names sites.
    """
    right = [i > 0 and any(_is_number(cells[i]) for cells in table.rows) for i in range(len(table.columns))]
    head = "".join(
        f'<th scope="col"{_kind(one)}{_SITE * (name == "site")}>{escape(title)}</th>'
        for one, (name, title) in zip(right, table.columns, strict=True)
    )
    rows = [f"<tr>{''.join(_html_cell(i, cell) for i, cell in enumerate(cells))}</tr>\n" for cells in table.rows]
    parted = len(rows) - table.totals
    foot = f"\n<tfoot>\n{''.join(rows[parted:])}</tfoot>" if table.totals else ""
    caption = f"<caption><span>{escape(table.caption)}</span></caption>"
    body = f"<tbody>\n{''.join(rows[:parted])}</tbody>{foot}"
    return f'<table data-sorts="">{caption}\n<thead><tr>{head}</tr></thead>\n{body}</table>'


_SITE = ' data-site=""'
"""Marks the column by which rows of one site are found."""


def _kind(right: bool) -> str:
    return ' class="number"' if right else ""


def _html_cell(place: int, cell: Cell) -> str:
    text = f"<strong>{escape(cell.text)}</strong>" if cell.strong else escape(cell.text)
    if place == 0:
        return f'<th scope="row">{text}</th>'
    if _is_number(cell):
        return f'<td class="number" data-value="{cell.value:.7g}">{text}</td>'
    return f"<td{_kind(cell.value is None)}>{text}</td>"


def _is_number(cell: Cell) -> bool:
    return isinstance(cell.value, float | int)
