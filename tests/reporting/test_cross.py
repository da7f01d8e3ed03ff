"""The cross-site matrix: rows to file and back, means by hand, the sentence, the picture."""

from __future__ import annotations

from pathlib import Path

import pytest

from sammit.errors import UserError
from sammit.reporting.cross import CrossScore, home_and_away, matrix, read_cross, reading, write_cross
from sammit.reporting.cross_figure import cross_site

from .test_figures import well_formed, words

ROWS = [
    CrossScore("A", "c1", "p1", "disc", "A", 0.9),
    CrossScore("A", "c1", "p1", "cup", "A", 0.7),
    CrossScore("A", "c1", "p1", "disc", "B, Inc", 0.5),
    CrossScore("B, Inc", "c1", "p1", "disc", "A", 1 / 3),
    CrossScore("B, Inc", "c1", "p1", "disc", "B, Inc", 0.6),
    CrossScore("new", "c9", "p9", "disc", "A", 0.1),
    CrossScore("new", "c9", "p9", "disc", "B, Inc", 0.2),
]


def summary(shared: bool = True) -> dict:
    entry = {"models": {"global": {"disc": {"dice": {"mean": 0.55}}} if shared else None}}
    return {"cross": matrix(ROWS), "sites": {"A": entry, "B, Inc": entry}, "unseen": {"new": entry}}


def test_rows_are_read_as_they_were_written(tmp_path: Path) -> None:
    write_cross(tmp_path / "cross.csv", ROWS)
    assert read_cross(tmp_path / "cross.csv") == ROWS
    assert (tmp_path / "cross.csv").read_text().startswith("site,case,patient,structure,model_of,dice\n")
    text = (tmp_path / "cross.csv").read_text()
    (tmp_path / "cross.csv").write_text(text.replace("0.6", "much"))
    with pytest.raises(UserError, match=r"cross\.csv, line 6: dice is 'much', not a number"):
        read_cross(tmp_path / "cross.csv")


def test_the_matrix_is_a_mean_over_cases_and_structures() -> None:
    found = matrix(ROWS)
    assert list(found) == ["A", "B, Inc"] and list(found["A"]) == ["A", "B, Inc", "new"]
    assert found["A"] == {"A": pytest.approx(0.8), "B, Inc": 1 / 3, "new": 0.1}
    assert matrix([]) == {}


def test_home_minus_away_leaves_out_sites_that_have_no_model() -> None:
    home, away = home_and_away(matrix(ROWS))
    assert (home, away) == (pytest.approx(0.7), pytest.approx((0.5 + 1 / 3) / 2))
    assert home_and_away({"A": {"A": 0.5}}) is None and home_and_away({}) is None
    assert reading(summary()) == (
        "A site's own model scores a Dice of 0.700 at home and 0.417 at the other sites that trained, that is 0.283 "
        "more at home."
    )
    worse = {"cross": {"A": {"A": 0.5, "B": 0.6}, "B": {"A": 0.7, "B": 0.5}}}
    assert reading(worse).endswith("that is 0.150 less at home.")
    assert reading({}) == reading({"cross": None}) == ""


def test_the_picture_has_every_number_and_the_shared_model() -> None:
    picture = cross_site(summary(), "x")
    text = words(well_formed(picture))
    for said in (".80", ".33", ".10", ".60", ".20", ".55", "A's", "B, Inc's", "shared model", "new", "patients"):
        assert said in text
    assert "A's on A 0.800, B, Inc 0.333 and new 0.100" in picture.alt
    assert "shared model" not in words(well_formed(cross_site(summary(shared=False), "x")))
    assert cross_site({"cross": None, "sites": {}}, "x") is None


def test_many_sites_leave_out_the_numbers_but_not_the_picture() -> None:
    names = [f"s{i}" for i in range(20)]
    cross = {one: {site: 0.5 + 0.01 * (one == site) for site in names} for one in names}
    text = words(well_formed(cross_site({"cross": cross, "sites": {}}, "x")))
    assert ".51" not in text and "s19" in text
