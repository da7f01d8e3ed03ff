"""Figures for a paper: the report's, on another sheet, in files that do not change by themselves."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sammit.errors import UserError
from sammit.reporting.folder import read_run
from sammit.reporting.paper import COLUMN, TEXT, check_formats, printed, run_pictures, study_pictures, write_pictures
from sammit.reporting.site_figure import dice_by_site
from sammit.reporting.study import study_results
from sammit.reporting.study_paper import NO_PAPER

from .fake_study import FakeStudy, make_study


def test_a_file_is_the_same_each_time(full_run: Path) -> None:
    """3.4 inches wide, letters embedded as TrueType or drawn, no date."""
    summary = read_run(full_run).summary
    one, other = (dice_by_site(summary, "x", COLUMN) for _ in range(2))
    assert one and other
    pdf, svg = printed(one, "dice", "pdf"), printed(one, "dice", "svg").decode()
    assert (pdf, svg.encode()) == (printed(other, "dice", "pdf"), printed(other, "dice", "svg"))
    assert b"/FontFile2" in pdf and b"/Type3" not in pdf and b"CreationDate" not in pdf
    assert re.search(rb"/MediaBox \[ 0 0 244\.8 ", pdf) and 'width="244.8pt"' in svg
    assert "<text" not in svg and "currentColor" not in svg and "<dc:date>" not in svg


@pytest.mark.slow
def test_a_run_has_the_same_files_each_time(full_run: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_pictures(run_pictures(read_run(full_run)), tmp_path / name, ["svg", "pdf", "png"])
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert names == ["captions.md", *(f"{n}.{f}" for n in ("dice-by-site", "training-loss", "validation-dice")
                                      for f in ("pdf", "png", "svg"))]  # fmt: skip
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name


def test_a_run_shows_the_tables_numbers(full_run: Path) -> None:
    """Each structure at each site under both models, as `summary.json` has it."""
    summary = read_run(full_run).summary
    alt = getattr(dice_by_site(summary, "x"), "alt", "")
    for site, entry in summary["sites"].items():
        for model, scores in ((name, one) for name, one in entry["models"].items() if one):
            for structure, one in scores.items():
                assert f"{site}, {model} {structure} {one['dice']['mean']:.3f}" in alt


@pytest.mark.parametrize("reference", ["", pytest.param("a", marks=pytest.mark.slow)])
def test_a_study(tmp_path: Path, reference: str) -> None:
    """Differences against the reference, or the best where there is none; letters shrink less than the width."""
    fake = FakeStudy(
        {"a": ("A", 0.0, "global"), "b": ("B", 0.04, "global"), "c": ("C", -0.05, "global")}, {"x": 12, "y": 14}
    )
    results = study_results(make_study(tmp_path, fake), 0.02, [("b", "c")], NO_PAPER, reference)
    pictures = study_pictures(results)
    assert list(pictures) == [f"{name}-fundus" for name in ("dice-by-site", "dice-against-bytes", "differences",
                                                            "federated-minus-centralised")]  # fmt: skip
    gaps = pictures["differences-fundus"]
    assert gaps.title.startswith("Each method minus A" if reference else "Each method minus B")
    ranked = results[0].ranking.others["c"]
    if not reference:
        assert ranked and f"C {ranked.pooled.mean:.3f}" in gaps.alt
    assert all(picture.figure.get_figwidth() == COLUMN.width for picture in pictures.values())
    if reference:
        assert study_pictures(results, TEXT)["differences-fundus"].figure.get_figwidth() == TEXT.width


def test_unknown_formats() -> None:
    with pytest.raises(UserError, match="--format tiff: known: pdf, png, svg"):
        check_formats(["svg", "tiff"])
