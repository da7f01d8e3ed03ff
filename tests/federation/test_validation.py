"""Runs that score validation patients: a search that never looks at a test patient."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import tiny
from sammit.federation.prepare import prepare
from sammit.reporting.cases import read_cases

VALIDATION: dict[str, Any] = {"data": {"size": 16}, "training": {"rounds": 1, "local_steps": 1}}


def experiment(root: Path, method: str, *unseen: str) -> Any:
    """A run that is scored on validation patients."""
    return tiny.experiment(root, method, **VALIDATION, evaluation={"scored": "val", "unseen": list(unseen)})


def destroy(root: Path, parts: dict[str, dict[str, str]]) -> int:
    """Fill the files of every test case with what is no image; returns how many."""
    count = 0
    for site, cases in parts.items():
        for path in (root / site).rglob("*.png"):
            if cases[path.stem] == "test":
                path.write_bytes(b"no image")
                count += 1
    return count


@pytest.mark.parametrize(("method", "unseen"), [("pfedsam", ()), ("centralised", ()), ("local_only", ("birch",))])
def test_no_test_patient_is_looked_at(tmp_path: Path, sites: Path, method: str, unseen: tuple[str, ...]) -> None:
    """The same files, byte for byte, whether the test patients' images can be read or not."""
    root = Path(shutil.copytree(sites, tmp_path / "data" / "sites"))
    chosen = experiment(root, method, *unseen)
    whole = tiny.contents(tiny.run(chosen, tmp_path / "whole"))
    parts = {site.name: dict(site.parts) for site in prepare(chosen).sites}
    assert destroy(root, parts) >= 4
    blind = tiny.contents(tiny.run(chosen, tmp_path / "blind"))
    assert blind == whole
    summary = blind["summary.json"]
    assert summary["scored"] == "val" and summary["unseen"] is None
    assert set(summary["sites"]) == set(tiny.LOOKS) - set(unseen)
    rows = read_cases(tmp_path / "blind" / "cases.csv")
    wanted = {(site, case) for site, of in parts.items() for case, part in of.items() if part == "val"}
    assert {(row.site, row.case) for row in rows} == wanted
    assert {name for row in rows for name in row.scores} == {"dice", "iou"}  # distances choose nothing
    assert not (tmp_path / "blind" / "pictures").exists()


def test_the_score_is_that_of_the_chosen_round(tmp_path: Path, sites: Path) -> None:
    """What a search compares is what validation said of the round that it kept."""
    out = tiny.run(experiment(sites, "fedavg"), tmp_path / "run")
    summary = json.loads((out / "summary.json").read_text())
    said = tiny.rows(out)[summary["selected_round"]]["validation"]
    assert {site: dice["global"] for site, dice in said.items()} == pytest.approx(
        {site: entry["dice"] for site, entry in summary["sites"].items()}
    )
