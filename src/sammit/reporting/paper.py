"""The report's figures for a paper: its column's width, its letters, files that are equal where the runs are.

They are drawn by the same code from the same numbers; only the sheet is another.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

from sammit.errors import UserError, nearest
from sammit.files import write_atomically
from sammit.reporting import figures, site_figure, study_figures, study_method_figures
from sammit.reporting.difference_figures import to_best
from sammit.reporting.folder import RunFolder
from sammit.reporting.study_method_figures import FEW
from sammit.reporting.study_results import Result
from sammit.reporting.svg import Picture, Sheet

COLUMN, TEXT = Sheet(3.4, 8), Sheet(7.0, 8)
"""One column of a page with two, and both."""

SHEETS = {"column": COLUMN, "text": TEXT}

SETTINGS = {
    "svg.fonttype": "path",  # the same letters wherever it is opened, with no font at hand
    "pdf.fonttype": 42,  # TrueType, embedded: publishers refuse type 3
    "font.family": "DejaVu Sans",  # comes with matplotlib, so that every machine draws the same
}

UNDATED = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {}}
"""Format -> what is left out of its metadata, so that equal figures are equal files."""

DOTS = 300  # an inch, of png


def run_pictures(run: RunFolder, sheet: Sheet = COLUMN) -> dict[str, Picture]:
    """File name -> figure of one run: its curves by site, its Dice by site."""
    name, chosen = str(run.summary["method"]), run.summary.get("selected_round")
    drawn = {
        "validation-dice": figures.validation_curves(run.rounds, chosen, name, sheet),
        "training-loss": figures.loss_curves(run.rounds, chosen, name, sheet),
        "dice-by-site": site_figure.dice_by_site(run.summary, name, sheet),
    }
    return {key: picture for key, picture in drawn.items() if picture is not None}


def study_pictures(results: Sequence[Result], sheet: Sheet | None = None) -> dict[str, Picture]:
    """File name -> figure of a study, block by block.

    Args:
        results: of every block.
        sheet: None: a column, or the text's width for figures with the names of many methods.
    """
    found: dict[str, Picture] = {}
    for result in results:
        own = sheet or (COLUMN if len(result.lines) <= FEW else TEXT)
        gaps = study_method_figures.against(result, own) if result.against else to_best(result, own)
        drawn = {
            "dice-by-site": study_method_figures.dice(result, own),
            "dice-against-bytes": study_figures.against_bytes(result, own),
            "differences": gaps,
            "federated-minus-centralised": study_figures.differences(result, own),
        }
        block = re.sub(r"\W+", "-", result.block.title).strip("-").lower()
        found |= {f"{name}-{block}": picture for name, picture in drawn.items() if picture is not None}
    return found


def check_formats(formats: Sequence[str]) -> None:
    """Raise UserError for a format that is not written."""
    for form in formats:
        if form not in UNDATED:
            raise UserError(f"--format {form}: {nearest(form, list(UNDATED))}")


def write_pictures(pictures: Mapping[str, Picture], out: Path, formats: Sequence[str]) -> list[Path]:
    """Write each figure in each format, and `captions.md` with what each shows in words; the files."""
    written = []
    for name, picture in pictures.items():
        for form in formats:
            write_atomically(out / f"{name}.{form}", printed(picture, name, form))
            written.append(out / f"{name}.{form}")
    captions = "".join(f"**{name}**: {picture.title}. {picture.alt}\n\n" for name, picture in pictures.items())
    write_atomically(out / "captions.md", captions.rstrip("\n") + "\n")
    return [*written, out / "captions.md"]


def printed(picture: Picture, name: str, form: str) -> bytes:
    """A figure as a file: dark on white; equal figures of one name give equal bytes."""
    import matplotlib

    picture.figure.patch.set(alpha=1, facecolor="white")
    data = io.BytesIO()
    with matplotlib.rc_context({**SETTINGS, "svg.hashsalt": name}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # a name in letters that the font lacks
        picture.figure.savefig(data, format=form, dpi=DOTS, metadata=UNDATED[form])
    return data.getvalue()
