"""A study's methods over sites: worst site, spread, costs; and that many methods stay readable."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from sammit.reporting.cases import CaseScore
from sammit.reporting.study import StudyCell, write_study
from sammit.reporting.study_cells import read_cells
from sammit.reporting.study_costs import costs_of
from sammit.reporting.study_method_figures import FEW, dice
from sammit.reporting.study_paper import NO_PAPER
from sammit.reporting.study_results import Result, make_result
from sammit.reporting.study_scores import make_blocks
from sammit.reporting.study_tables import LONGEST, beside_table, scores_tables

from .fake_study import FakeStudy, make_study, write_rows
from .test_figures import well_formed, words
from .test_html import checked


def read(cells: list[StudyCell]) -> Result:
    (block,) = make_blocks(cells, read_cells(cells))
    return make_result(block, (), 0.02, NO_PAPER)


def told(cell: StudyCell, **facts: object) -> None:
    """Put other facts into a cell's summary."""
    path = cell.folder / "summary.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **facts}))


def rows(path: Path) -> dict[tuple[str, str], dict[str, str]]:
    return {(row["method"], row["model"]): row for row in csv.DictReader(path.read_text().splitlines())}


def hand_made(folder: Path, dice_of: dict[tuple[str, int], dict[str, float]]) -> list[StudyCell]:
    """Cells of one method that score one case a site: (model, seed) -> site -> Dice; personal is reported."""
    cells = []
    for seed in sorted({seed for _, seed in dice_of}):
        cell = StudyCell("d", "m", "M", "", seed, folder / str(seed))
        scored = [
            CaseScore(site, "c", "p", "disc", model, {"dice": value, "iou": value})
            for (model, own), sites in dice_of.items()
            if own == seed
            for site, value in sites.items()
        ]
        write_rows(cell, scored, dict.fromkeys(("A", "B", "C"), "personal"))
        told(cell, steps={"per_site": 40.0 + seed, "last_stage": 5.0})
        cells.append(cell)
    return cells


HAND = {
    ("personal", 0): {"A": 0.9, "B": 0.5, "C": 0.7},
    ("global", 0): {"A": 0.6, "B": 0.4, "C": 0.5},
    ("personal", 1): {"A": 0.6, "B": 0.8, "C": 1.0},
    ("global", 1): {"A": 0.5, "B": 0.45, "C": 0.8},
}


def test_worst_site_and_spread_are_those_of_each_run(tmp_path: Path) -> None:
    write_study(hand_made(tmp_path / "cells", HAND), tmp_path, "t", 0.02, (), None)
    found = rows(tmp_path / "methods.csv")
    own, shared = found["m", "personal"], found["m", "global"]
    assert (own["reported"], shared["reported"], own["seeds"]) == ("yes", "no", "2")
    numbers = {name: float(own[name]) for name in ("dice_mean", "dice_worst", "sd_sites", "best_minus_worst", "steps")}
    expected = {"dice_mean": 0.75, "dice_worst": 0.55, "sd_sites": 0.2, "best_minus_worst": 0.4, "steps": 40.5}
    assert numbers == pytest.approx(expected)
    assert own["worst_site"] == "A"  # each is the worst once: the first by name
    assert float(shared["dice_worst"]) == pytest.approx(0.425) and float(shared["dice_mean"]) == pytest.approx(3.25 / 6)
    for name, value in {"up_bytes_per_site_round": 480_000, "total_bytes": 9e6, "parameters_shared": 120_000}.items():
        assert float(own[name]) == value


def test_personal_and_shared_model_stand_beside_each_other(tmp_path: Path) -> None:
    table = beside_table(read(hand_made(tmp_path, HAND)))
    assert [cells[1].text for cells in table.rows] == ["personal model (reported)", "global model"]
    columns = [name for name, _ in table.columns]
    assert columns == ["method", "model", "A", "B", "C", "mean", "worst", "sd_sites"]
    assert [cells[columns.index("worst")].text for cells in table.rows] == ["0.550 (A)", "0.425 (B)"]
    assert [cells[columns.index("sd_sites")].text for cells in table.rows] == ["0.200", "0.145"]


def test_a_seed_that_lacks_a_site_has_no_worst_one(tmp_path: Path) -> None:
    fake = FakeStudy({"m": ("M", 0.0, "global")}, {"X": 6, "Y": 6})
    cells = make_study(tmp_path / "cells", fake)
    (gone,) = [cell for cell in cells if (cell.unseen, cell.seed) == ("Y", 1)]
    (gone.folder / "summary.json").unlink()
    result = read(cells)
    first = read([cell for cell in cells if cell.seed == 0])
    spread = [one.between(one.lines[0], "disc", "dice") for one in (result, first)]
    assert spread[0] == spread[1]
    for cell in cells:
        (cell.folder / "summary.json").unlink(missing_ok=cell is gone)
    empty = read(cells)
    assert empty.between(empty.lines[0], "", "dice") is None


def test_costs_are_means_over_the_cells_that_tell_them() -> None:
    tells = {"traffic": {"up_bytes_per_site_round": 10, "down_bytes_per_site_round": 30, "total_bytes": 400}}
    costs = costs_of([{**tells, "steps": {"per_site": 8}}, {**tells, "steps": {"per_site": 10}}, {"parameters": {}}])
    assert (costs.cells, costs.up, costs.moved, costs.total, costs.steps, costs.shared) == (3, 10, 40, 400, 9, None)
    assert costs_of([]).moved is None
    more = costs_of([{"traffic": {"up_bytes_per_site_round": 10.02}}])
    assert costs.sends_no_more_than(more) and not more.sends_no_more_than(costs)
    assert costs.sends_no_more_than(costs_of([])) is None


def test_the_last_stage_alone_says_nothing_of_old_runs(tmp_path: Path) -> None:
    """Runs from before steps were counted have none, and the table says so."""
    cells = make_study(tmp_path / "cells", FakeStudy({"m": ("M", 0.0, "global")}, {"X": 6, "Y": 6}, unseen=False))
    write_study(cells, tmp_path, "t", 0.02, (), None)
    assert rows(tmp_path / "methods.csv")["m", "global"]["steps"] == ""


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[StudyCell]]:
    """Twenty-two methods, two structures, three kinds of bytes."""
    out = tmp_path_factory.mktemp("many")
    methods = {f"m{i:02}": (f"Method {i:02}", 0.002 * i, "global") for i in range(22)}
    fake = FakeStudy(methods, {"X": 8, "Y": 6}, seeds=(0,), unseen=False, structures=("disc", "cup"))
    cells = make_study(out / "cells", fake)
    for place, cell in enumerate(cells):
        sent = (300, 1_000_000, 5_000_000)[min(place, 1 + place % 2)]
        told(cell, traffic={"up_bytes_per_site_round": sent, "down_bytes_per_site_round": sent, "total_bytes": sent})
    write_study(cells, out, "Many", 0.02, (), None, "m10")
    return out, cells


def test_many_methods_have_a_table_for_each_score_the_headline_first(many) -> None:
    result = read(many[1])
    tables = scores_tables(result, result.block.metrics)
    assert len(tables) == 6 and all(len(table.rows) == 22 <= LONGEST for table in tables)
    assert tables[0].caption == "fundus: Dice, mean over structures, by method and site (protocol: standard)."
    assert [name for name, _ in tables[0].columns][1] == "X"
    markdown = (many[0] / "table.md").read_text()
    assert markdown.index("Dice, mean over structures") < markdown.index("Dice, disc")
    assert (many[0] / "table.tex").read_text().count("Method 07") == 6 + 2  # scores; reference and best


def test_few_methods_share_one_table(tmp_path: Path) -> None:
    fake = FakeStudy({"m": ("M", 0.0, "global")}, {"X": 6, "Y": 6}, seeds=(0,), structures=("disc", "cup"))
    result = read(make_study(tmp_path, fake))
    (table,) = scores_tables(result, result.block.metrics)
    assert len(table.rows) == 3 * 2


def test_many_methods_have_a_row_each_in_the_figure(many) -> None:
    result = read(many[1])
    assert len(result.lines) > FEW
    text = words(well_formed(dice(result)))
    assert all(f"Method {i:02}" in text for i in range(22)) and "mean over sites" in text


def test_a_report_of_many_methods_is_whole(many) -> None:
    text = checked(many[0] / "report.html")
    for said in ("against Method 10", "Dice against bytes", "Dice by method and site", "Steps of a site"):
        assert said in text
    svg = (many[0] / "dice-against-bytes-fundus.svg").read_text()
    assert all(f"Method {i:02}" in svg for i in range(22)) and "//" in svg
