"""Every method against a reference: by hand, against SciPy, and what the verdict needs."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest
from scipy import stats

from sammit.reporting.paired_sites import Apart
from sammit.reporting.statistics import holm
from sammit.reporting.study import write_study
from sammit.reporting.study_against import Against, Gap, against_reference, tally
from sammit.reporting.study_cells import StudyCell
from sammit.reporting.study_csv import against_csv
from sammit.reporting.study_method_figures import against as figure
from sammit.reporting.study_paper import NO_PAPER
from sammit.reporting.study_results import Result, make_result
from sammit.reporting.study_scores import make_blocks
from sammit.reporting.study_sentences import against as sentence
from sammit.reporting.study_versus_tables import against_table

from .fake_study import FakeStudy, in_memory, make_study
from .test_figures import well_formed, words
from .test_html import checked
from .test_study_versus import Dice, patients, shifted


def result(methods: dict[str, Dice], up: dict[str, float] | None = None, reference: str = "r") -> Result:
    """Two unseen sites, two seeds; `up` are a method's bytes, which otherwise all have alike."""
    cells = [StudyCell("d", m, m.upper(), site, seed, Path(m)) for seed in (0, 1) for site in "AB" for m in methods]
    own = [(cell, methods[cell.method].get((cell.unseen, cell.seed))) for cell in cells]
    finished = [in_memory(cell, dice) for cell, dice in own if dice]
    if up:
        finished = [
            replace(one, summary={**one.summary, "traffic": {"up_bytes_per_site_round": up[one.cell.method]}})
            for one in finished
        ]
    (block,) = make_blocks(cells, finished)
    return make_result(block, (), 0.02, NO_PAPER, reference)


METHODS = {"r": shifted(0.05, name="r"), "b": shifted(0.0, name="b"), "c": shifted(0.05, name="c")}


def harder(dice: Dice, site: str) -> Dice:
    """The same with every case of one site lower by 0.3."""
    return {
        key: {p: [value - 0.3 * (key[0] == site) for value in values] for p, values in own.items()}
        for key, own in dice.items()
    }


def by_name(found: list[Against]) -> dict[str, Against]:
    return {one.method: one for one in found}


def test_the_difference_is_that_of_the_tables_means() -> None:
    one = result(METHODS)
    found = by_name(one.against)
    assert list(found) == ["b", "c"] and one.reference == "r"
    lines = {line.method: line for line in one.lines}
    structure = one.block.headline
    for name in "bc":
        means = [one.headline(lines[m]).mean for m in (name, "r")]
        worst = [one.between(lines[m], structure, "dice").worst for m in (name, "r")]
        assert found[name].mean.apart.difference == pytest.approx(means[0] - means[1])
        assert found[name].worst.apart.difference == pytest.approx(worst[0] - worst[1])
    assert (found["b"].mean.verdict, found["c"].mean.verdict) == ("worse", "not significant")
    assert found["b"].seeds == (0, 1)


def test_the_test_is_scipys_on_the_patients_of_all_or_of_the_worst_sites() -> None:
    methods = {name: harder(dice, "A") for name, dice in METHODS.items()}
    found = by_name(result(methods).against)
    means = {name: patients(dice) for name, dice in methods.items()}
    for over, sites, count in (("mean", "AB", 24), ("worst", "A", 12)):
        own = {m: [v for (site, _), v in one.items() if site in sites] for m, one in means.items()}
        raw = [stats.wilcoxon(own[m], own["r"]).pvalue for m in "bc"]
        gaps = [getattr(found[m], over) for m in "bc"]
        assert [gap.p for gap in gaps] == pytest.approx(holm(raw))
        assert {gap.patients for gap in gaps} == {count}


def test_a_verdict_needs_interval_and_test_to_say_the_same() -> None:
    up, wide, down = Apart(0.02, 0.01, 0.03), Apart(0.02, -0.01, 0.03), Apart(-0.02, -0.03, -0.01)
    gaps = [(up, 0.01, 1), (up, 0.2, 1), (wide, 0.01, 1), (up, 0.01, -1), (down, 0.01, -1), (down, 0.01, 1)]
    verdicts = [Gap(*gap, patients=9).verdict for gap in gaps]
    assert verdicts == ["better", *["not significant"] * 3, "worse", "not significant"]
    assert Gap(Apart(0.02, float("nan"), float("nan")), 0.01, 1, 9).verdict == "not significant"


def test_seeds_that_one_of_them_lacks_are_not_compared() -> None:
    once = {key: value for key, value in METHODS["b"].items() if key[1] == 0}
    alone = {key: value for key, value in METHODS["c"].items() if key[0] == "A"}
    found = by_name(result({"r": METHODS["r"], "b": once, "c": alone}).against)
    assert found["b"].seeds == (0,) and found["c"].seeds == () and found["c"].mean is found["c"].worst is None
    first = {m: {key: value for key, value in METHODS[m].items() if key[1] == 0} for m in "rb"}
    expected = by_name(result(first).against)["b"].mean
    assert found["b"].mean.apart == expected.apart
    assert found["b"].mean.p == pytest.approx(min(1, 2 * expected.p))  # the test that is still to come counts too


def test_bytes_are_held_against_the_reference() -> None:
    found = by_name(result(METHODS, {"r": 1e6, "b": 1e6 + 500, "c": 1.01e6}).against)
    assert (found["b"].thrifty, found["c"].thrifty) == (True, False)
    table = against_table(result(METHODS, {"r": 1e6, "b": 1e6 + 500, "c": 1.01e6}))
    assert [table.cell(name, "sends_no_more").text for name in "BC"] == ["yes", "no"]
    unknown = result(METHODS)
    for one in unknown.block.finished:
        one.summary["traffic"] = {}
    assert {one.thrifty for one in against_reference(unknown.block, "r")} == {None}


def test_what_a_reader_is_told() -> None:
    one = result(METHODS)
    table = against_table(one)
    assert [cells[0].text for cells in table.rows] == ["B", "C"] and table.caption == "d: each method against R."
    assert table.cell("B", "mean_verdict").text == "worse" and table.cell("B", "mean_verdict").strong
    assert tally(one.against, "mean") == {"better": 0, "worse": 1, "not significant": 1}
    assert sentence(one).startswith("1 of 2 other methods are worse than R in the mean over sites and 0 better; ")
    assert "The others cannot be told from it. Of the 2 that send no more bytes, none is better" in sentence(one)
    text = words(well_formed(figure(one)))
    assert "worse" in text and "not significant" in text and "mean Dice minus R's" in text
    rows = list(csv.DictReader(against_csv([one]).splitlines()))
    assert [(row["method"], row["over"], row["seeds"]) for row in rows] == [
        (name, over, "2") for name in "bc" for over in ("mean over sites", "worst site")
    ]
    assert float(rows[0]["low"]) < float(rows[0]["difference"]) < float(rows[0]["high"]) < 0
    assert (rows[0]["verdict"], rows[0]["sends_no_more"], rows[0]["reference"]) == ("worse", "yes", "r")


def test_without_a_reference_nothing_is_set_against_it() -> None:
    for one in (result(METHODS, reference=""), result(METHODS, reference="elsewhere")):
        assert one.reference == "" and not one.against
        assert against_table(one) is None and figure(one) is None and sentence(one) == ""


def test_a_study_with_a_reference_writes_the_file_and_the_table(tmp_path: Path) -> None:
    fake = FakeStudy({"p": ("P", 0.05, "personal"), "q": ("Q", 0.0, "global")}, {"X": 16, "Y": 12}, unseen=False)
    write_study(make_study(tmp_path / "cells", fake), tmp_path, "t", 0.02, (), None, "p")
    (mean, worst) = csv.DictReader((tmp_path / "against-p.csv").read_text().splitlines())
    assert (mean["verdict"], worst["over"]) == ("worse", "worst site")
    for name in ("table.md", "table.tex", "report.html"):
        assert "each method against P" in (tmp_path / name).read_text()
    assert "1 of 1 other methods are worse than P in the mean over sites" in checked(tmp_path / "report.html")
