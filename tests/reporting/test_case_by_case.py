"""The cases of two methods in a page: what is there, what is left out for size, and that no name ends the element."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sammit.reporting.case_by_case import CaseByCase, Scored, case_by_case
from sammit.reporting.cases_of_runs import cases_of_runs
from sammit.reporting.folder import read_run
from sammit.reporting.study_scores import ALL, by_structure
from sammit.reporting.summary import CaseScore

from .fake import FakeRun, make_run

ROOM = 10**6


def score(site: str, case: str, dice: float, hd95: float | None = 1.5, structure: str = "disc") -> CaseScore:
    return CaseScore(site, case, f"patient of {case}", structure, "global", {"dice": dice, "iou": dice, "hd95": hd95})


def scored(**methods: dict[tuple[str, str], list[CaseScore]]) -> Scored:
    """Methods from their rows at each (site, run)."""
    runs = {key: {place: by_structure(rows) for place, rows in own.items()} for key, own in methods.items()}
    structures = dict.fromkeys(name for own in runs.values() for part in own.values() for name in part)
    sites = dict.fromkeys(site for own in runs.values() for site, _ in own)
    return Scored(runs, {key: key.upper() for key in runs}, [*sites], [*structures], "mm", ["b"])


def data_of(made: CaseByCase | None) -> dict[str, Any]:
    assert made is not None
    table: dict[str, Any] = json.loads(made.data)
    return table


def test_a_case_is_told_missing_from_undefined() -> None:
    """Whole numbers by method, structure, score, run and case; -1 undefined, null not scored, 0 for nothing at all."""
    made = case_by_case(
        scored(
            a={("X", "0"): [score("X", "c1", 0.81234), score("X", "c2", 0.5, None)], ("Y", "0"): [score("Y", "c1", 1)]},
            b={("X", "0"): [score("X", "c2", 0.25)], ("X", "1"): [score("X", "c2", 0.75, 2.0)]},
        ),
        ROOM,
    )
    data = data_of(made)
    assert (data["sites"], data["cases"]) == (["X", "Y"], [["c1", "c2"], ["c1"]])
    assert [one["name"] for one in data["scores"]] == ["Dice", "HD95 (mm)"]
    assert data["values"] == [
        [[[[81234, 50000, 100000], 0], [[150, -1, 150], 0]]],
        [[[[None, 25000, None], [None, 75000, None]], [[None, 150, None], [None, 200, None]]]],
    ]
    assert made is not None and made.methods == ("A", "B") and made.chosen == (1, 0) and made.lacking == ""


def test_patients_are_not_named_and_a_name_cannot_end_the_element() -> None:
    rows = {("X", "0"): [score("X", "</script><script>alert(1)", 0.5)]}
    made = case_by_case(scored(a=rows, b=rows), ROOM)
    assert made is not None and "<" not in made.data and "patient" not in made.data
    assert data_of(made)["cases"] == [["</script><script>alert(1)"]]


def test_what_does_not_fit_goes_in_order_and_is_said() -> None:
    rows = {("X", "0"): [score("X", f"c{i:03}", 0.5, structure=name) for i in range(100) for name in ("disc", "cup")]}
    whole = scored(a=rows, b=rows)
    sizes = []
    for room, lost in (
        (ROOM, ""),
        (5000, "To keep this file small: HD95 left out. Each"),
        (2500, "To keep this file small: HD95 and single structures left out. Each"),
        (1000, "of each site's cases one in 4 is kept, in order of their names. Each run's cases.csv has everything."),
    ):
        made = case_by_case(whole, room)
        data = data_of(made)
        assert made is not None and lost in made.lacking and len(made.data) <= room
        assert made.structures[-1] == ALL and data["structures"] == list(made.structures)
        sizes.append(len(data["cases"][0]))
    assert sizes == [100, 100, 100, 25]


def test_one_method_is_not_compared() -> None:
    rows = {("X", "0"): [score("X", "c", 0.5)]}
    assert case_by_case(scored(a=rows), ROOM) is None
    assert case_by_case(scored(a=rows, b={}), ROOM) is None


def test_runs_of_one_method_and_seed_stay_apart(tmp_path: Path) -> None:
    """And a site that took no part is another place than the same site where it did."""
    small = FakeRun(rounds=2, cases=8, sites=("A", "B"), structures=("disc",))
    fakes = [small, small, FakeRun(**{**vars(small), "method": "other", "unseen": ("B",)})]
    runs = [read_run(make_run(tmp_path / str(i), fake, pictures=False)) for i, fake in enumerate(fakes)]
    made = cases_of_runs(runs, [str(run.summary["method"]) for run in runs], ["other"])
    assert list(made.methods["pfedsam"]) == [("A", "seed 0"), ("B", "seed 0"), ("A", "seed 0, 2"), ("B", "seed 0, 2")]
    assert list(made.methods["other"]) == [("A", "seed 0"), ("B (unseen)", "seed 0")]
    with pytest.raises(AttributeError):
        made.unit = "mm"  # type: ignore[misc]
