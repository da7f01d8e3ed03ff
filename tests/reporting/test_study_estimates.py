"""Means over cases, seeds and sites against hand computations; what order and missing cells may not change."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sammit.reporting.statistics import groups_bootstrap, patient_bootstrap
from sammit.reporting.study_cells import Finished, StudyCell
from sammit.reporting.study_csv import differences_csv, scores_csv
from sammit.reporting.study_paper import NO_PAPER
from sammit.reporting.study_results import MEAN, Result, make_result
from sammit.reporting.study_scores import ALL, make_blocks
from sammit.reporting.summary import CaseScore

from .fake_study import FakeStudy, case_rows, in_memory, summary_of


def cell(method: str, unseen: str, seed: int = 0, dataset: str = "d") -> StudyCell:
    return StudyCell(dataset, method, method.upper(), unseen, seed, Path("nowhere"))


def results(cells: list[StudyCell], finished: list[Finished], pairs: tuple[tuple[str, str], ...] = ()) -> list[Result]:
    return [make_result(block, pairs, 0.02, NO_PAPER) for block in make_blocks(cells, finished)]


def rows_of(all_results: list[Result]) -> dict[tuple[str, ...], dict[str, str]]:
    """`table.csv` by (dataset, method, model, site, structure, metric)."""
    rows = csv.DictReader(io.StringIO(scores_csv(all_results)))
    keys = ("dataset", "method", "model", "reported", "site", "structure", "metric")
    return {tuple(row[key] for key in keys): row for row in rows}


A0, A1, B0, B1 = cell("m", "A", 0), cell("m", "A", 1), cell("m", "B", 0), cell("m", "B", 1)
DICE = {
    A0: {"p": [0.8, 0.6], "q": [0.4]},
    A1: {"p": [1.0, 0.6], "q": [0.5]},
    B0: {"r": [0.2]},
    B1: {"r": [0.4]},
}


def test_numbers_by_hand() -> None:
    """A: means 0.6 and 0.7; B: 0.2 and 0.4; over sites: 0.4 and 0.55."""
    one = rows_of(results(list(DICE), [in_memory(*item) for item in DICE.items()]))
    a, b, mean = (one["d", "m", "global", "yes", site, "disc", "dice"] for site in ("A", "B", MEAN))
    assert [float(row["mean"]) for row in (a, b, mean)] == pytest.approx([0.65, 0.3, 0.475])
    spread = [math.sqrt(0.005), math.sqrt(0.02), 0.15 / math.sqrt(2)]
    assert [float(row["sd_seeds"]) for row in (a, b, mean)] == pytest.approx(spread)
    assert [(row["cases"], row["patients"], row["seeds"]) for row in (a, b, mean)] == [
        ("3", "2", "2"), ("1", "1", "2"), ("4", "3", "2")
    ]  # fmt: skip
    assert (b["low"], b["high"], mean["low"]) == ("", "", "")  # one patient has no interval, so the mean has none
    key = ("study interval", "d", "disc", "dice", "A")
    low, high = patient_bootstrap([0.9, 0.6, 0.45], ["p", "p", "q"], key)  # cases averaged over seeds
    assert [float(a["low"]), float(a["high"])] == pytest.approx([low, high])
    assert a["unseen"] == "yes" and a["rule"] == "the global model" and a["protocol"] == "standard"
    assert float(one["d", "m", "global", "yes", MEAN, "disc", "iou"]["mean"]) == pytest.approx(0.475 / 2)


def test_interval_of_the_mean_over_sites() -> None:
    dice = {A0: {"p": [0.8], "q": [0.4]}, B0: {"p": [0.2], "r": [0.9]}}
    row = rows_of(results(list(dice), [in_memory(*item) for item in dice.items()]))
    mean = row["d", "m", "global", "yes", MEAN, "disc", "dice"]
    groups = {"A": ([0.8, 0.4], ["p", "q"]), "B": ([0.2, 0.9], ["p", "r"])}
    low, high = groups_bootstrap(groups, ("study interval", "d", "disc", "dice", MEAN))
    assert (float(mean["low"]), float(mean["high"])) == (low, high)


def test_a_missing_seed_leaves_the_others_mean_and_is_named() -> None:
    there = [in_memory(item, DICE[item]) for item in (A0, A1, B1)]
    rows = rows_of(results(list(DICE), there))
    a, b, mean = (rows["d", "m", "global", "yes", site, "disc", "dice"] for site in ("A", "B", MEAN))
    assert (float(b["mean"]), b["sd_seeds"], b["seeds"], b["missing"]) == (0.4, "", "1", "seed 0")
    assert float(a["mean"]) == pytest.approx(0.65) and a["missing"] == ""
    assert float(mean["mean"]) == pytest.approx((0.65 + 0.4) / 2)
    assert (mean["seeds"], mean["sd_seeds"], mean["missing"]) == ("1", "", "B, seed 0")


def test_a_missing_site_leaves_no_mean_over_sites() -> None:
    rows = rows_of(results(list(DICE), [in_memory(item, DICE[item]) for item in (A0, A1)]))
    b = rows["d", "m", "", "yes", "B", "disc", "dice"]
    mean = rows["d", "m", "global", "yes", MEAN, "disc", "dice"]
    assert (b["mean"], b["cases"], b["missing"]) == ("", "0", "seed 0; seed 1")
    assert (mean["mean"], mean["low"], mean["missing"]) == ("", "", "B, seed 0; B, seed 1")


def test_nothing_finished_is_all_missing() -> None:
    rows = rows_of(results(list(DICE), []))
    assert {row["mean"] for row in rows.values()} == {""} and len(rows) == 3 * 2
    assert rows_of(results([cell("m", "")], [])).keys() == {
        ("d", "m", "", "yes", MEAN, "", metric) for metric in ("dice", "iou")
    }


def test_undefined_distances_are_counted_and_never_enter_a_mean() -> None:
    def one(seed: int, values: list[float | None]) -> Finished:
        rows = [
            CaseScore("A", f"c{i}", f"p{i}", "disc", "global", {"dice": 0.5, "iou": 0.4, "hd95": value}, "mm")
            for i, value in enumerate(values)
        ]
        return Finished(cell("m", "A", seed), summary_of(cell("m", "A", seed), rows, {"A": "global"}), rows)

    there = [one(0, [1.0, None, 3.0, None]), one(1, [2.0, 4.0, None, None])]
    row = rows_of(results([one.cell for one in there], there))["d", "m", "global", "yes", "A", "disc", "hd95"]
    assert (float(row["mean"]), row["cases"], row["undefined"]) == (2.5, "4", "3")
    gone = [one(0, [None]), one(1, [None])]
    row = rows_of(results([one.cell for one in gone], gone))["d", "m", "global", "yes", "A", "disc", "hd95"]
    assert (row["mean"], row["cases"], row["undefined"], row["missing"]) == ("", "1", "1", "")


def test_distances_in_two_units_have_no_mean_over_sites() -> None:
    def one(site: str, unit: str) -> Finished:
        scores = {"dice": 0.5, "iou": 0.4, "hd95": 2.0, "nsd": 0.9}
        rows = [CaseScore(site, f"c{i}", f"p{i}", "disc", "global", scores, unit) for i in range(3)]
        return Finished(cell("m", site), summary_of(cell("m", site), rows, {site: "global"}), rows)

    there = [one("A", "mm"), one("B", "px")]
    rows = rows_of(results([one.cell for one in there], there))
    assert rows["d", "m", "global", "yes", "A", "disc", "hd95"]["mean"] == "2.0"
    assert rows["d", "m", "global", "yes", MEAN, "disc", "hd95"]["mean"] == ""
    assert float(rows["d", "m", "global", "yes", MEAN, "disc", "nsd"]["mean"]) == 0.9


def test_structures_have_rows_of_their_own_and_their_mean() -> None:
    rows = [
        CaseScore("A", "c", "p", structure, "global", {"dice": dice, "iou": dice / 2, "hd95": 1.0})
        for structure, dice in (("disc", 0.9), ("cup", 0.5))
    ]
    there = [Finished(cell("m", "A"), summary_of(cell("m", "A"), rows, {"A": "global"}), rows)]
    table = rows_of(results([there[0].cell], there))
    assert float(table["d", "m", "global", "yes", "A", ALL, "dice"]["mean"]) == pytest.approx(0.7)
    assert ("d", "m", "global", "yes", "A", ALL, "hd95") not in table
    assert ("d", "m", "global", "yes", "A", "cup", "hd95") in table


FAKE = FakeStudy(
    {"a": ("A", 0.05, "global"), "p": ("P", 0.0, "personal"), "l": ("L", -0.05, "sources")},
    {"X": 4, "Y": 5}, distances=True,
)  # fmt: skip


def fake_cells(unseen: bool) -> list[tuple[StudyCell, Finished]]:
    made = []
    for seed in (0, 1):
        for method in FAKE.methods:
            for site in FAKE.sites if unseen else [""]:
                one = StudyCell("d", method, FAKE.methods[method][0], site, seed, Path("nowhere"))
                model = FAKE.methods[method][2]
                models = {"personal": ("global", "experts")}.get(model, (model,)) if unseen else ("global", "personal")
                judged = [site] if site else list(FAKE.sites)
                rows = [row for s in judged for m in models for row in case_rows(FAKE, one, s, m)]
                reported = dict.fromkeys(judged, models[0] if unseen else "personal")
                made.append((one, Finished(one, summary_of(one, rows, reported), rows)))
    return made


@pytest.mark.parametrize("unseen", [True, False])
def test_models_that_do_not_stand_for_their_method_are_named(unseen: bool) -> None:
    made = fake_cells(unseen)
    rows = rows_of(results([one for one, _ in made], [there for _, there in made]))
    beside = {(key[1], key[2]) for key in rows if key[3] == "no"}
    chosen = {(key[1], key[2]) for key in rows if key[3] == "yes"}
    if unseen:
        assert beside == {("p", "experts")}
        assert chosen == {("a", "global"), ("p", "global"), ("l", "sources")}
    else:
        assert beside == {(method, "global") for method in FAKE.methods}
        assert chosen == {(method, "personal") for method in FAKE.methods}
    assert {row["unseen"] for row in rows.values()} == {"yes" if unseen else "no"}


@pytest.mark.parametrize("unseen", [True, False])
@settings(max_examples=8)
@given(data=st.data())
def test_order_changes_no_number(unseen: bool, data: st.DataObject) -> None:
    made = fake_cells(unseen)
    other = data.draw(st.permutations(made))
    texts = []
    for cells in (made, other):
        one = results([c for c, _ in cells], [f for _, f in cells], (("a", "p"),))
        texts.append((sorted(scores_csv(one).splitlines()), sorted(differences_csv(one).splitlines())))
    assert texts[0] == texts[1]


@settings(max_examples=12)
@given(data=st.data())
def test_missing_cells_change_no_other_number(data: st.DataObject) -> None:
    made = fake_cells(True)
    gone = data.draw(st.sets(st.integers(0, len(made) - 1), max_size=len(made) - 1))
    cells = [one for one, _ in made]
    whole = rows_of(results(cells, [there for _, there in made]))
    partly = rows_of(results(cells, [there for place, (_, there) in enumerate(made) if place not in gone]))
    lost = {(made[place][0].method, site) for place in gone for site in (made[place][0].unseen, MEAN)}
    for key, row in whole.items():
        if (key[1], key[4]) not in lost:
            assert partly[key] == row
    for key, row in partly.items():
        assert bool(row["missing"]) == ((key[1], key[4]) in lost)
