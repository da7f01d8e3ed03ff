"""Tables by hand: what is averaged, what is tested, and how it reads in each format."""

from __future__ import annotations

import csv
import io
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import pytest

from sammit.errors import UserError
from sammit.reporting.statistics import holm, paired_wilcoxon, patient_means
from sammit.reporting.summary import CaseScore, Facts, summarise
from sammit.reporting.tables import (
    compare,
    overview,
    results,
    to_csv,
    to_html,
    to_latex,
    to_markdown,
    unseen_models,
)

from .fake import FakeRun, case_rows, facts

FAKE = FakeRun(personal=False)


def made(*fakes: tuple[str, FakeRun]):
    rows = [case_rows(fake) for _, fake in fakes]
    summaries = [(label, summarise(r, facts(fake))) for (label, fake), r in zip(fakes, rows, strict=True)]
    return summaries, rows


def one_case(dice: float, seed: int, site: str = "A") -> dict:
    rows = [CaseScore(site, "c", "p", "disc", "global", {"dice": dice, "iou": dice})]
    known = {"method": "m", "model": "sam-tiny", "dataset": "d", "protocol": "standard"}
    return summarise(rows, Facts(**known, seed=seed, rounds=1, selected_round=0, parameters={"shared": 1500}))


def test_seeds_of_a_label_are_averaged_by_hand() -> None:
    table = compare([("m", one_case(0.6, 0)), ("m", one_case(0.8, 1)), ("other", one_case(0.5, 0))])
    cell = table.cell("m", "dice_A")
    assert (cell.value, cell.sd) == pytest.approx((0.7, 0.02**0.5))
    assert cell.text == "0.700 ± 0.141"
    assert table.cell("m", "seeds").value == 2
    assert table.cell("other", "dice_mean").text == "0.500"
    assert table.cell("m", "dice_mean").strong and not table.cell("other", "dice_mean").strong
    assert table.cell("m", "shared_parameters").text == "1.5\u00a0k"
    assert table.cell("m", "up_bytes_per_site_round").text == "–"
    assert table.cell("other", "p_holm").text == "not tested, as no cases are in common"


def test_a_site_that_a_run_lacks_stays_empty() -> None:
    table = compare([("m", one_case(0.6, 0)), ("n", one_case(0.8, 0, "B"))])
    assert table.cell("m", "dice_B").value is None and table.cell("n", "dice_B").value == 0.8


def test_each_method_is_tested_against_the_best_on_patients() -> None:
    better, worse, even = FAKE, replace(FAKE, method="x", gain=-0.05), replace(FAKE, method="y", gain=-0.003)
    summaries, rows = made(("best", better), ("worse", worse), ("even", even))
    table = compare(summaries, rows)
    raw = []
    for other in (worse, even):
        pairs = {}
        for fake in (better, other):
            for row in case_rows(fake):
                pairs.setdefault((row.site, row.patient, row.case), {}).setdefault(fake.method, []).append(
                    row.scores["dice"]
                )
        keys = sorted(pairs)
        patients = [key[:2] for key in keys]
        means = [
            patient_means([sum(pairs[k][m]) / len(pairs[k][m]) for k in keys], patients)
            for m in (other.method, better.method)
        ]
        raw.append(paired_wilcoxon(*means))
    assert [table.cell("worse", "p_holm").value, table.cell("even", "p_holm").value] == pytest.approx(holm(raw))
    assert table.cell("worse", "p_holm").text.startswith("lower (p < 0.001")
    assert table.cell("even", "p_holm").text.startswith("difference not significant")
    assert table.cell("best", "p_holm").text == "best mean"
    assert table.cell("worse", "difference").value == pytest.approx(-0.05, abs=0.01)
    assert any("Holm" in note for note in table.notes)


def test_unseen_sites_have_columns_of_their_own() -> None:
    runs = [("m", replace(FAKE, unseen=(site,))) for site in FAKE.sites]
    summaries, rows = made(*runs)
    table = compare(summaries, rows)
    titles = [title for _, title in table.columns]
    assert "REFUGE" in titles and "REFUGE (unseen)" in titles and "Mean unseen" in titles
    alone = summaries[3][1]["unseen"]["REFUGE"]["dice"]
    assert table.cell("m", "dice_unseen_REFUGE").value == alone


def test_protocols_are_not_mixed_and_nothing_is_not_compared() -> None:
    with pytest.raises(UserError, match="fedfms and standard"):
        compare([("a", one_case(0.5, 0)), ("b", {**one_case(0.5, 0), "protocol": "fedfms"})])
    with pytest.raises(UserError, match="scored on validation and on test patients cannot share a table"):
        compare([("a", one_case(0.5, 0)), ("b", {**one_case(0.5, 0), "scored": "val"})])
    with pytest.raises(UserError, match="no runs"):
        compare([])


def test_results_have_a_row_for_each_site_model_and_structure() -> None:
    summaries, _ = made(("m", FakeRun(unseen=("REFUGE",))))
    table = results(summaries[0][1])
    assert len(table.rows) == 3 * 2 * 2 + 2
    assert [title for _, title in table.columns][4:] == ["Dice", "IoU", "HD95", "NSD"]
    assert {cells[1].text for cells in table.rows if cells[0].text == "REFUGE (unseen)"} == {"global model (reported)"}
    assert all(cells[1].text != "global model (reported)" for cells in table.rows if cells[0].text == "REFUGE")


@pytest.fixture(scope="module")
def table():
    summaries, rows = made(("50 % & <b>_|", FAKE), ("b", replace(FAKE, method="x", gain=-0.05)))
    return compare(summaries, rows)


def test_markdown(table) -> None:
    lines = to_markdown(table).splitlines()
    assert lines[2].startswith("| Method | Seeds | Drishti-GS |") and lines[3].count("---") == len(table.columns)
    assert r"**50 % & <b>_\|**" in lines[4]


def test_csv_holds_unrounded_numbers() -> None:
    table = compare([("m", one_case(0.6, 0)), ("m", one_case(0.8, 1)), ("other", one_case(1 / 3, 0))])
    rows = list(csv.DictReader(io.StringIO(to_csv(table))))
    assert rows[1]["dice_A"] == repr(1 / 3) and rows[1]["dice_A_sd"] == ""
    assert float(rows[0]["dice_A_sd"]) == pytest.approx(0.02**0.5)
    assert rows[0]["shared_parameters"] == "1500"


def test_latex_escapes_and_uses_booktabs(table) -> None:
    text = to_latex(table)
    assert r"\textbf{50 \% \& $<$b$>$\_\textbar{}}" in text
    assert text.count(r"\toprule") == text.count(r"\midrule") == text.count(r"\bottomrule") == 1
    body = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert {line.replace(r"\&", "").count("&") for line in body} == {len(table.columns) - 1}


def test_html_is_well_formed_and_escaped(table) -> None:
    tree = ElementTree.fromstring(to_html(table))
    assert len(tree.findall(".//tbody/tr")) == 2
    assert tree.find(".//tbody/tr/th/strong").text == "50 % & <b>_|"


def left_out(*models: str) -> dict:
    """A run in which site U was unseen and no source site has test cases."""
    rows = [
        CaseScore("U", f"c{i}", f"p{i}", "disc", model, {"dice": 0.5 + place / 10, "iou": 0.4})
        for place, model in enumerate(models)
        for i in range(3)
    ]
    known = {"method": "m", "model": "sam-tiny", "dataset": "d", "protocol": "standard", "seed": 0, "rounds": 1}
    return summarise(rows, Facts(**known, selected_round=0, reported={"U": models[0]}, unseen={"U": "its rule"}))


def test_unseen_sites_name_each_model_and_the_rule_of_the_reported_one() -> None:
    table = unseen_models(left_out("global", "experts"))
    assert table is not None
    assert [[cell.text for cell in cells] for cells in table.rows] == [
        ["U", "0.500", "0.400", "global model (reported)", "its rule"],
        ["U", "0.600", "0.400", "global model with mean experts", "beside it, for comparison"],
    ]
    assert [cells[1].strong for cells in table.rows] == [True, False]
    assert unseen_models(made(("m", FAKE))[0][0][1]) is None


def test_runs_without_a_seen_score_are_compared_by_the_unseen() -> None:
    table = compare([("m", left_out("global")), ("n", {**left_out("sources"), "mean": None, "worst_site": None})])
    titles = [title for _, title in table.columns]
    assert "Mean unseen" in titles and "Mean" not in titles and "Worst site" not in titles
    assert table.cell("m", "dice_mean_unseen").strong and table.cell("n", "dice_mean_unseen").value == 0.5
    assert "source sites' models" in overview(left_out("sources")).rows[0][3].text
