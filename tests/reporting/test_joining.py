"""What a new site's own part is worth: numbers by hand, words, a page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sammit.errors import UserError
from sammit.reporting.joining import Joined, JoinFacts, in_a_sentence, join_table, summarise_join
from sammit.reporting.joining_page import read_join, write_join_report

from .test_html import checked

FACTS = JoinFacts("cedar <1>", "run", "pfedsam", "sam-tiny", "standard", 0, 40, "mean", ("aster", "birch"))


def model(label: str, cases: int, patients: int, dice: dict[tuple[str, str], tuple[float, float]]) -> Joined:
    """Rows of two structures for each (patient, case)."""
    rows = [
        {"patient": patient, "case": case, "structure": structure, "dice": value, "iou": value / 2}
        for (patient, case), values in dice.items()
        for structure, value in zip(("cup", "disc"), values, strict=True)
    ]
    return Joined(label, cases, patients, rows, {"loss": 0.25, "steps": 40} if cases else {})


def gained(gain: float) -> dict[tuple[str, str], tuple[float, float]]:
    """Eight patients, the last of two cases."""
    who = [(f"p{i}", f"c{i}") for i in range(8)] + [("p7", "c8")]
    return {key: (0.5 + 0.01 * i + gain, 0.3 + gain) for i, key in enumerate(who)}


@pytest.fixture
def summary() -> dict[str, Any]:
    return summarise_join(
        [
            model("global", 0, 0, gained(0.0)),
            model("cases-1", 1, 1, gained(-0.1)),
            model("cases-all", 9, 8, gained(0.2)),
        ],
        FACTS,
    )


def test_numbers_by_hand(summary: dict[str, Any]) -> None:
    """A case is its mean over structures; a gain that all share has no width; exact Wilcoxon, doubled by Holm."""
    first, fewer, last = summary["models"]
    assert first["dice"]["mean"] == pytest.approx((0.5 + 0.3) / 2 + 0.01 * 4 / 2)
    assert first["iou"]["mean"] == pytest.approx(first["dice"]["mean"] / 2)
    assert first["dice"]["low"] < first["dice"]["mean"] < first["dice"]["high"]
    assert last["structures"]["disc"] == pytest.approx({"mean": 0.5, "low": 0.5, "high": 0.5})
    assert last["difference"] == pytest.approx({"mean": 0.2, "low": 0.2, "high": 0.2, "p_holm": 2 * 2 / 2**8})
    assert fewer["difference"]["mean"] == pytest.approx(-0.1)
    assert first["difference"] is None and (last["loss"], last["steps"]) == (0.25, 40)
    assert summary["test"] == {"cases": 9, "patients": 8}
    json.dumps(summary, allow_nan=False)


def test_words(summary: dict[str, Any]) -> None:
    """The table names every model; the sentence says what the test can tell."""
    table = join_table(summary)
    gain = table.cell("own part, all 9 labelled cases of 8 patients", "difference")
    assert gain.text == "0.200 [0.200, 0.200]" and table.cell("shared part alone", "difference").value is None
    assert [cells[2].strong for cells in table.rows] == [False, False, True]
    assert "better (0.200 [0.200, 0.200], p = 0.016)" in in_a_sentence(summary)
    summary["models"][-1]["difference"]["p_holm"] = 0.2
    assert "no difference that these patients can tell" in in_a_sentence(summary)


def test_one_test_patient_has_no_interval(tmp_path: Path) -> None:
    """And the page can still be drawn."""
    alone = {("p", "c"): (0.5, 0.5)}
    summary = summarise_join([model("global", 0, 0, alone), model("cases-all", 2, 1, alone)], FACTS)
    assert summary["models"][1]["difference"] == {"mean": 0, "low": None, "high": None, "p_holm": 1.0}
    assert "no difference" in in_a_sentence(summary)
    (tmp_path / "join.json").write_text(json.dumps(summary))
    (tmp_path / "environment.json").write_text("{}")
    assert "1 test patient" in checked(write_join_report(tmp_path))


def test_a_page(tmp_path: Path, summary: dict[str, Any]) -> None:
    """Well-formed, escaped, self-contained; the same again for the same numbers."""
    (tmp_path / "join.json").write_text(json.dumps(summary))
    (tmp_path / "environment.json").write_text(json.dumps({"notes": ["A reconstruction."]}))
    text = checked(write_join_report(tmp_path))
    for said in ("cedar &lt;1&gt; joins run", "the mean of aster and birch", "40 steps", "A reconstruction.",
                 "own part, 1 labelled case of 1 patient", "labelled training cases"):  # fmt: skip
        assert said in text
    assert write_join_report(tmp_path).read_text() == text
    with pytest.raises(UserError, match=r"join\.json: is missing or damaged"):
        read_join(tmp_path / "nowhere")
