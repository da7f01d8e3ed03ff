"""Rows to `summary.json`, by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from sammit.errors import UserError
from sammit.reporting.summary import (
    CaseScore,
    Facts,
    read_cases,
    read_summary,
    summarise,
    summarise_site,
    write_cases,
    write_summary,
)


def row(site: str, case: str, dice: float, model: str = "global", structure: str = "disc", **more: float | None):
    patient = case.split("-")[0]
    return CaseScore(site, case, patient, structure, model, {"dice": dice, "iou": dice / 2, **more})


def facts(**more: object) -> Facts:
    known = {"method": "fedavg", "model": "sam-tiny", "dataset": "phantom", "protocol": "standard"}
    return Facts(**known, seed=0, rounds=2, selected_round=1, **more)


ROWS = [
    row("A", "p1-1", 0.8, hd95=1.0),
    row("A", "p1-2", 0.6, hd95=None),
    row("A", "p2-1", 0.4, hd95=3.0),
    row("A", "p1-1", 0.4, structure="cup", hd95=None),
    row("A", "p1-2", 0.2, structure="cup", hd95=None),
    row("A", "p2-1", 0.0, structure="cup", hd95=None),
    row("B", "q1", 0.9),
    row("B", "q1", 0.7, structure="cup"),
    row("B", "q1", 1.0, "personal"),
    row("B", "q1", 0.9, "personal", "cup"),
]


def test_summary_by_hand() -> None:
    summary = summarise(ROWS, facts(reported={"A": "global", "B": "personal"}))
    a, b = summary["sites"]["A"], summary["sites"]["B"]
    disc = a["models"]["global"]["disc"]["dice"]
    assert (disc["mean"], disc["sd"], disc["cases"]) == pytest.approx((0.6, 0.2, 3))
    assert 0.4 <= disc["low"] <= disc["mean"] <= disc["high"] <= 0.7  # patients' means are 0.7 and 0.4
    assert a["models"]["personal"] is None
    assert (a["cases"], a["patients"], a["reported"]) == (3, 2, "global")
    assert a["undefined"] == {"dice": 0, "iou": 0, "hd95": 4}
    assert a["models"]["global"]["disc"]["hd95"]["mean"] == 2.0
    cup = a["models"]["global"]["cup"]["hd95"]
    assert cup == {"mean": None, "sd": None, "low": None, "high": None, "cases": 0}
    assert a["dice"] == pytest.approx(0.4) and b["dice"] == pytest.approx(0.95)
    assert summary["mean"]["dice"] == pytest.approx((0.4 + 0.95) / 2)
    assert summary["pooled"]["dice"] == pytest.approx((3 * 0.4 + 0.95) / 4)
    assert summary["mean"]["iou"] == pytest.approx(summary["mean"]["dice"] / 2)
    assert summary["worst_site"] == {"site": "A", "dice": a["dice"]}
    assert b["models"]["global"]["disc"]["dice"]["low"] is None  # one patient has no interval
    assert summary["unseen"] is None


def test_the_keys_are_the_documented_ones() -> None:
    summary = summarise(ROWS, facts())
    assert list(summary) == [
        "method", "model", "dataset", "protocol", "scored", "seed", "rounds", "selected_round", "sites", "unseen",
        "mean", "pooled", "worst_site", "parameters", "traffic", "steps", "cross", "seconds",
        "peak_rss_bytes",
    ]  # fmt: skip
    assert set(summary["sites"]["A"]) == {"cases", "patients", "reported", "models", "undefined", "dice", "iou"}


def test_unseen_sites_stand_apart() -> None:
    summary = summarise(ROWS, facts(unseen={"A": "mean of the personal models"}))
    assert list(summary["sites"]) == ["B"] and list(summary["unseen"]) == ["A"]
    assert summary["unseen"]["A"]["rule"] == "mean of the personal models"
    assert summary["mean"]["dice"] == summary["pooled"]["dice"] == pytest.approx(0.8)
    assert summary["worst_site"]["site"] == "B"


def test_only_unseen_sites_leave_the_means_empty(tmp_path: Path) -> None:
    summary = summarise(ROWS, facts(unseen={"A": "global", "B": "global"}))
    assert summary["mean"] == {"dice": None, "iou": None} and summary["worst_site"] is None
    write_summary(tmp_path / "summary.json", summary)


def test_order_of_rows_does_not_change_a_number() -> None:
    forward, backward = summarise(ROWS, facts()), summarise(ROWS[:6][::-1] + ROWS[6:], facts())
    assert forward["mean"] == backward["mean"] and forward["pooled"] == backward["pooled"]


def test_what_cannot_be_summarised_is_refused() -> None:
    with pytest.raises(UserError, match="'C' has no scored case"):
        summarise(ROWS, facts(reported={"C": "global"}))
    with pytest.raises(UserError, match="'A' has no case scored with the personal model"):
        summarise(ROWS, facts(reported={"A": "personal"}))
    with pytest.raises(ValueError, match="not finite"):
        summarise_site([row("A", "p", float("nan"))], "global", 0)
    with pytest.raises(ValueError, match="dice is missing"):
        summarise_site([CaseScore("A", "p", "p", "disc", "global", {"iou": 0.1})], "global", 0)


def test_files_come_back_as_they_went(tmp_path: Path) -> None:
    extra = row('C, the "third"', "ünï", 1 / 3)
    rows = [replace(r, scores={"hd95": None, **r.scores}) for r in (*ROWS, extra)]
    write_cases(tmp_path / "cases.csv", rows)
    back = read_cases(tmp_path / "cases.csv")
    assert [r.scores["dice"] for r in back] == [r.scores["dice"] for r in rows]
    assert back[-1].site == 'C, the "third"' and back[-1].scores["hd95"] is None
    summary = summarise(rows, facts())
    write_summary(tmp_path / "summary.json", summary)
    assert read_summary(tmp_path / "summary.json") == summary == summarise(back, facts())
    assert "NaN" not in (tmp_path / "summary.json").read_text()
    assert json.loads((tmp_path / "summary.json").read_text())["seed"] == 0


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("site,case\n", "column 'patient' is missing"),
        ("site,case,patient,structure,model,dice,iou\nA,1,1,disc,global,high,0.1\n", "line 2: dice is 'high'"),
        ("site,case,patient,structure,model,dice,iou\nA,1,1,disc,global,,0.1\n", "line 2: .*dice is missing"),
        (
            "site,case,patient,structure,model,dice,iou\nA,1,1,disc,globl,0.2,0.1\n",
            "must be one of global, personal, sources",
        ),
    ],
)
def test_a_bad_file_is_refused_with_its_line(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "cases.csv").write_text(text)
    with pytest.raises(UserError, match=complaint):
        read_cases(tmp_path / "cases.csv")


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        read_cases(tmp_path / "cases.csv")
    with pytest.raises(UserError, match="no such file"):
        read_summary(tmp_path / "summary.json")
    (tmp_path / "summary.json").write_text("{")
    with pytest.raises(UserError, match="not a JSON file"):
        read_summary(tmp_path / "summary.json")
