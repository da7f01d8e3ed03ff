"""How sites differ, by hand; the models of a run beside each other."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sammit.reporting.between import LOWER, Between, between, of_model, over_runs
from sammit.reporting.model_tables import by_model
from sammit.reporting.summary import summarise

from .fake import FakeRun, case_rows, facts


def test_the_worst_site_and_the_spread_by_hand() -> None:
    found = between({"b": 0.6, "a": 0.9, "c": 0.75})
    assert found == Between(pytest.approx(0.75), 0.6, "b", pytest.approx(0.15), pytest.approx(0.3), 3)
    assert between({"near": 2.0, "far": 9.0}, LOWER).worst_site == "far"
    assert between({"b": 0.5, "a": 0.5}).worst_site == "a"
    assert between({"a": 0.5}) == Between(0.5, 0.5, "a", None, 0.0, 1)
    assert between({}) is None


def test_over_runs_each_run_has_its_own_worst_site() -> None:
    """The mean of the worst is below the worst of the means where sites take turns."""
    runs = [between({"a": 0.4, "b": 0.8}), between({"a": 0.8, "b": 0.4}), between({"a": 0.5, "b": 0.9})]
    found = over_runs(runs)
    assert (found.worst, found.worst_site) == (pytest.approx(1.3 / 3), "a")
    assert found.gap == pytest.approx(0.4) and found.sd == pytest.approx(0.4 / 2**0.5)
    assert over_runs([]) is None


def test_models_of_a_run_on_the_same_sites() -> None:
    fake = FakeRun(unseen=("REFUGE",))
    summary = summarise(case_rows(fake), facts(fake))
    table = by_model(summary)
    assert [cells[0].value for cells in table.rows] == ["global", "personal"]
    assert [cells[0].strong for cells in table.rows] == [False, True]
    dice = {site: entry["dice"] for site, entry in summary["sites"].items()}
    personal = table.rows[1]
    assert personal[1].value == pytest.approx(summary["mean"]["dice"]) == pytest.approx(sum(dice.values()) / 3)
    assert (personal[2].value, personal[3].value) == (summary["worst_site"]["site"], summary["worst_site"]["dice"])
    assert personal[5].value == pytest.approx(max(dice.values()) - min(dice.values()))
    assert table.rows[0][1].value < personal[1].value


def test_a_model_that_some_site_lacks_has_no_mean_over_sites() -> None:
    fake = FakeRun()
    summary = summarise([row for row in case_rows(fake) if (row.site, row.model) != ("REFUGE", "global")], facts(fake))
    assert of_model(summary, "global") is None and of_model(summary, "personal") is not None
    alone = replace(fake, sites=("A",))
    assert by_model(summarise(case_rows(alone), facts(alone))) is None
