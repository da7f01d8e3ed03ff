"""Printed numbers find their place beside a study's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from sammit.errors import UserError
from sammit.reporting.study_paper import NO_PAPER, plain_name, read_paper

TABLE = """dataset,unseen_site,structure,model,dice,iou
prostate,ISBI,prostate,FedSAM,0.837,0.792
prostate,ISBI1.5,prostate,FedSAM,0.785,0.754
prostate,Average,prostate,FedSAM,0.819,0.784
prostate,ISBI,prostate,FedSAM (-PT),0.459,
fets2022,18,enhancing tumour,FedSAM,0.9,0.8
fundus,REFUGE,OD,FedSAM,0.7,0.6
fundus,REFUGE,OC,FedSAM,0.5,0.4
"""


@pytest.fixture
def paper(tmp_path: Path):
    (tmp_path / "paper.csv").write_text(TABLE)
    return read_paper(tmp_path / "paper.csv")


def test_names_are_matched_without_regard_to_case_spaces_and_punctuation(paper) -> None:
    assert paper.number("Prostate", "ISBI_1.5", "prostate", "fed sam", "dice") == 0.785
    assert paper.number("prostate", "isbi", "prostate", "FedSAM", "iou") == 0.792
    assert paper.number("prostate", "Average", "prostate", "FedSAM", "dice") == 0.819
    assert paper.number("FeTS-2022", "site_18", "enhancing tumour", "FedSAM", "dice") == 0.9
    assert plain_name("Drishti-GS1") == plain_name("drishti gs 1") != plain_name("Drishti-GS")


def test_what_the_paper_lacks_is_none(paper) -> None:
    assert paper.number("prostate", "ISBI", "prostate", "FedSAM (-PT)", "iou") is None  # an empty field
    assert paper.number("prostate", "ISBI", "prostate", "FedSAM(-PT)", "dice") == 0.459
    assert paper.number("prostate", "BIDMC", "prostate", "FedSAM", "dice") is None
    assert paper.number("prostate", "ISBI", "prostate", "FedMSA", "dice") is None
    assert NO_PAPER.number("prostate", "ISBI", "prostate", "FedSAM", "dice") is None
    assert paper.knows("prostate", "ISBI 1.5") and not paper.knows("prostate", "UCL") and not paper.knows("nuclei")


def test_an_average_belongs_to_its_sites(paper) -> None:
    """Beside the mean over other sites it would mislead."""
    sites = ["ISBI", "ISBI 1.5"]
    assert paper.averages("prostate", sites) and paper.averages("Prostate", sites[::-1])
    assert not paper.averages("prostate", sites[:1]) and not paper.averages("prostate", [*sites, "UCL"])
    assert not paper.averages("nuclei", sites) and not NO_PAPER.averages("prostate", sites)


def test_structures_are_matched_by_name_unless_each_stands_alone(paper) -> None:
    assert paper.number("fundus", "REFUGE", "disc", "FedSAM", "dice") == 0.7
    assert paper.number("fundus", "REFUGE", "optic cup", "FedSAM", "dice") == 0.5
    assert paper.number("fets2022", "18", "tumour", "FedSAM", "dice", alone=True) == 0.9
    assert paper.number("fets2022", "18", "tumour", "FedSAM", "dice") is None
    assert paper.number("fundus", "REFUGE", "vessel", "FedSAM", "dice", alone=True) is None


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("dataset,model\n", "column 'unseen_site' is missing"),
        ("dataset,unseen_site,structure,model,dice,iou\na,b,c,d,high,0.1\n", "line 2: dice is 'high'"),
    ],
)
def test_a_bad_table_is_refused(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "paper.csv").write_text(text)
    with pytest.raises(UserError, match=complaint):
        read_paper(tmp_path / "paper.csv")
    with pytest.raises(UserError, match="no such file"):
        read_paper(tmp_path / "none.csv")


def test_the_published_table_is_read_whole() -> None:
    path = Path(__file__).parents[2] / "studies" / "fedfms-table1-paper.csv"
    printed = read_paper(path)
    assert len(printed.numbers) == 2 * (len(path.read_text().splitlines()) - 1)  # no two rows under one name
    assert printed.number("nuclei", "Average", "nucleus", "FedMSA-L", "dice") == 0.769
