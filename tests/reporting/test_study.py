"""The files of a study's report: what is in them, what is refused, what a page may be."""

from __future__ import annotations

import csv
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sammit.errors import UserError
from sammit.reporting import html, study_html
from sammit.reporting.study import StudyCell, write_study

from .fake_study import FakeStudy, make_study
from .test_html import checked

PAIRS = (("fed", "cen"),)
FAKE = FakeStudy(
    {"fed": ("Fed & Co_1", 0.05, "global"), "cen": ("Cen", 0.045, "global")}, {"ISBI_1.5": 30, "UCL 100%": 24}, side=60
)
PAPER = """dataset,unseen_site,structure,model,dice,iou
Fundus,isbi1.5,OD,Fed & Co 1,0.111,0.222
Fundus,Average,OD,Fed & Co 1,0.333,0.444
"""


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[StudyCell]]:
    """One dataset, two methods, two sites, two seeds, with pictures; written once."""
    out = tmp_path_factory.mktemp("study")
    cells = make_study(out / "cells", FAKE)
    (out / "paper.csv").write_text(PAPER)
    written = write_study(cells, out, "A study of <two>", 0.02, PAIRS, out / "paper.csv")
    assert [path.name for path in written.files] == [
        "table.csv", "methods.csv", "differences.csv", "dice-against-bytes-fundus.svg", "table.tex", "table.md",
        "report.html",
    ]  # fmt: skip
    assert written.missing == () and all(path.is_file() for path in written.files)
    return out, cells


def rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


def test_table_csv_has_a_row_for_each_score(study) -> None:
    table = rows(study[0] / "table.csv")
    assert list(table[0]) == [
        "dataset", "method", "label", "site", "unseen", "structure", "metric", "model", "reported", "rule", "mean",
        "sd_seeds", "low", "high", "cases", "patients", "seeds", "undefined", "protocol", "paper", "missing",
    ]  # fmt: skip
    assert len(table) == 2 * 3 * 1 * 2
    assert all(row["low"] < row["mean"] < row["high"] for row in table)
    printed = {(row["site"], row["metric"]): row["paper"] for row in table if row["paper"]}
    assert printed == {("ISBI_1.5", "dice"): "0.111", ("ISBI_1.5", "iou"): "0.222"}  # its average is over other sites


def test_differences_csv_has_a_row_for_each_comparison_and_site(study) -> None:
    table = rows(study[0] / "differences.csv")
    assert [(row["comparison"], row["site"]) for row in table] == [
        (kind, site)
        for kind in ("against the best", "federated minus centralised")
        for site in ("all sites", "ISBI_1.5", "UCL 100%")
    ]
    assert (table[3]["verdict"], table[3]["margin"], table[0]["verdict"]) == ("superior", "0.02", "")
    assert table[3]["p_holm"] and not table[4]["p_holm"]


def test_markdown_shows_the_papers_numbers_and_says_that_they_do_not_compare(study) -> None:
    text = (study[0] / "table.md").read_text()
    assert "| Method | Score | ISBI_1.5 | UCL 100% | Mean over sites | 95 % interval | Worst site |" in text
    assert re.search(r"\| Fed & Co_1 \| Dice \| 0\.\d{3} \(0\.111\) \| 0\.\d{3} \| .*± 0\.\d{3}", text)
    assert "0.333" not in text
    assert "The paper scored in another way" in text and "The paper has no number for UCL 100%." in text
    assert "Scored cases (patients): ISBI_1.5 30 (15), UCL 100% 24 (12)." in text
    assert "Judged at an unseen site by the global model: Fed & Co_1 and Cen." in text


def test_the_papers_own_protocol_is_named(tmp_path: Path) -> None:
    cells = make_study(tmp_path / "cells", replace(FAKE, protocol="fedfms", side=0, seeds=(0,)))
    (tmp_path / "paper.csv").write_text(PAPER)
    write_study(cells, tmp_path, "t", 0.02, (), tmp_path / "paper.csv")
    text = (tmp_path / "table.md").read_text()
    assert "Both follow FedFMS's scoring." in text and "another way" not in text and "protocol: fedfms" in text
    (tmp_path / "paper.csv").write_text(PAPER.replace("Fundus", "nuclei"))
    write_study(cells, tmp_path, "t", 0.02, (), tmp_path / "paper.csv")
    assert "no number for this dataset under these methods' labels" in (tmp_path / "table.md").read_text()


def test_latex_is_escaped_and_says_what_it_needs(study) -> None:
    text = (study[0] / "table.tex").read_text()
    assert text.startswith("% A study of <two>\n% Needs \\usepackage{booktabs}")
    assert r"Fed \& Co\_1" in text and r"UCL 100\%" in text and "±" not in text
    body = [line for line in text.splitlines() if not line.startswith("%")]
    assert not re.search(r"(?<!\\)[%#]|(?<!\\)_", "\n".join(body))
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 3


def test_the_page_is_whole(study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(html, "LARGEST", study_html.LARGEST)
    text = checked(study[0] / "report.html")
    assert "A study of &lt;two&gt;" in text and text.count("<caption") == text.count("<table")
    assert text.count("data:image/jpeg") == 2  # one image a site, shared by the truth and every method
    assert text.count('role="img"') == 4 + 2 * (1 + 3)  # figures; a row of sites, then truth and two methods each
    for said in ("federated minus centralised", "Cases by site and part", "the same case under every method",
                 "cells/fundus/fed/ISBI_1.5-0", "Every run of the study is there"):  # fmt: skip
        assert said in text
    words = re.sub("<script.*?</script>", "", text, flags=re.DOTALL)
    assert "margin, -0.02" in text and "missing" not in words.replace("missing cells", "")
    assert "two methods, case by case" in words and '"sites":["ISBI_1.5","UCL 100%"]' in text


def test_reports_of_equal_studies_are_equal(study, tmp_path: Path) -> None:
    out, cells = study
    write_study(cells, tmp_path, "A study of <two>", 0.02, PAIRS, out / "paper.csv")
    for name in ("table.csv", "methods.csv", "differences.csv", "dice-against-bytes-fundus.svg", "table.md"):
        assert (tmp_path / name).read_text() == (out / name).read_text()


def test_missing_cells_are_shown_and_listed(study, tmp_path: Path) -> None:
    out, cells = study
    moved = [replace(cell, folder=tmp_path / cell.folder.relative_to(out)) for cell in cells]
    shutil.copytree(out / "cells", tmp_path / "cells")
    gone = [cell for cell in moved if cell.method == "cen" and cell.unseen == "ISBI_1.5"]
    for cell in gone:
        (cell.folder / "summary.json").unlink()
    written = write_study(moved, tmp_path, "t", 0.02, PAIRS, None)
    assert written.missing == tuple(gone)
    before, after = rows(out / "table.csv"), rows(tmp_path / "table.csv")
    for old, new in zip(before, after, strict=True):
        if old["method"] == "fed" or old["site"] == "UCL 100%":
            assert {**old, "paper": ""} == new
        else:
            assert new["mean"] == "" and "seed 0" in new["missing"]
    text = (tmp_path / "table.md").read_text()
    assert "| Cen | Dice | missing | 0." in text and "- fundus, Cen, ISBI_1.5 unseen, seed 1" in text
    page = (tmp_path / "report.html").read_text()
    assert "2 cells have no finished run" in page and "waits for missing cells" in page
    assert "Cen has no picture of this case." in page and "0.000 [" not in page


def test_a_study_of_which_nothing_is_done_is_all_missing(tmp_path: Path) -> None:
    cells = [StudyCell("d", m, m, site, 0, tmp_path / m) for m in ("a", "b") for site in ("X", "Y")]
    assert len(write_study(cells, tmp_path, "t", 0.02, (("a", "b"),), None).missing) == 4
    assert "No run kept a picture (example.npz) of X and Y." in (tmp_path / "report.html").read_text()
    everywhere = [replace(cells[0], unseen=""), *cells[1:]]
    write_study(everywhere, tmp_path, "t", 0.02, (), None)
    assert "d, all sites take part" in (tmp_path / "table.md").read_text()


def test_a_study_without_unseen_sites_and_with_every_kind_of_score(tmp_path: Path) -> None:
    fake = FakeStudy(
        {"a": ("A", 0.1, "personal"), "b": ("B", 0.0, "personal")}, {"X": 8, "Y": 6}, structures=("disc", "cup"),
        unseen=False, distances=True, side=40,
    )  # fmt: skip
    cells = make_study(tmp_path / "cells", fake)
    write_study(cells, tmp_path, "t", 0.02, (), None)
    table = rows(tmp_path / "table.csv")
    assert {row["unseen"] for row in table} == {"no"}
    assert {(row["model"], row["reported"]) for row in table} == {("personal", "yes"), ("global", "no")}
    assert {row["structure"] for row in table} == {"disc", "cup", "mean over structures"}
    page = (tmp_path / "report.html").read_text()
    assert "(1 undefined)" in page and "HD95 by method and site" in page and "margin" not in page.split("<h2")[1]
    (row,) = [r for r in table if r["reported"] == "yes"
              and (r["method"], r["site"], r["structure"], r["metric"]) == ("a", "X", "cup", "hd95")]  # fmt: skip
    assert row["undefined"] == "1" and row["cases"] == "8"


def test_pictures_that_are_of_another_case_or_damaged(study, tmp_path: Path) -> None:
    shutil.copytree(study[0] / "cells", tmp_path / "cells")
    cells = [replace(cell, folder=tmp_path / cell.folder.relative_to(study[0])) for cell in study[1]]
    for path in tmp_path.rglob("cen/UCL 100%-*/pictures/UCL 100%/example.npz"):
        with np.load(path) as stored:
            np.savez(path, **{**stored, "case": np.array("another")})
    write_study(cells, tmp_path, "t", 0.02, (), None)
    text = (tmp_path / "report.html").read_text()
    assert text.count("Cen has no picture of this case.") == 1
    for path in tmp_path.rglob("example.npz"):
        path.write_bytes(b"no")
    with pytest.raises(UserError, match=r"example\.npz: not a case's pictures"):
        write_study(cells, tmp_path, "t", 0.02, (), None)


def test_a_page_gives_up_pictures_before_it_grows(study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study_html, "LARGEST", 100)
    write_study(study[1], tmp_path, "t", 0.02, PAIRS, None)
    text = (tmp_path / "report.html").read_text()
    assert "Pictures were left out to keep this file small." in text and "data:image" not in text


def test_what_cannot_be_reported_is_refused_and_nothing_is_written(study, tmp_path: Path) -> None:
    cells = study[1]
    odd = {
        "without cells": ([], 0.02, ()),
        "twice": ([*cells, cells[0]], 0.02, ()),
        "choose one label": ([cells[0], replace(cells[2], method="fed", label="other")], 0.02, ()),
        "was not unseen in this run": ([replace(cells[0], unseen="UCL 100%")], 0.02, ()),
        "margin": (cells, 0.0, ()),
        "no method 'sam'": (cells, 0.02, (("fed", "sam"),)),
        "reference: the study has no method 'fedd': did you mean 'fed'?": (cells, 0.02, (), "fedd"),
    }
    for complaint, (some, margin, pairs, *reference) in odd.items():
        with pytest.raises(UserError, match=re.escape(complaint)):
            write_study(some, tmp_path / "out", "t", margin, pairs, None, *reference)
    mixed = make_study(tmp_path / "cells", replace(FAKE, protocol="fedfms", seeds=(7,), side=0))
    with pytest.raises(UserError, match="fundus: cells scored under fedfms and standard"):
        write_study([*cells, *mixed], tmp_path / "out", "t", 0.02, (), None)
    (alone,) = make_study(tmp_path / "val", replace(FAKE, methods=dict([*FAKE.methods.items()][:1]), seeds=(7,)))[:1]
    summary = json.loads((alone.folder / "summary.json").read_text())
    (alone.folder / "summary.json").write_text(json.dumps({**summary, "scored": "val"}))
    with pytest.raises(UserError, match="its scores are of validation patients"):
        write_study([alone], tmp_path / "out", "t", 0.02, (), None)
    assert not (tmp_path / "out").exists()
