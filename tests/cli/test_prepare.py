"""`sammit data prepare`: from a raw copy to a run, and its refusals."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tiny
from data.prepare import raw_fundus, raw_nuclei

Call = Callable[..., Any]


def test_from_a_raw_copy_to_a_run(tmp_path: Path, sammit: Call) -> None:
    """Prepare, check, train; progress and warnings are lines."""
    raw_nuclei.tnbc(tmp_path / "raw")
    raw_nuclei.monuseg(tmp_path / "raw")
    out = tmp_path / "root"
    said = sammit("data", "prepare", "nuclei", tmp_path / "raw", out, "--option", "parts=all")
    assert said.code == 0 and said.err == ""
    assert "wrote 7 of 7 cases" in said.out and "WARNING site monusac2020: nothing of it" in said.out
    assert said.out.splitlines()[-1] == f"2 sites in {out}; look at them with: sammit data check {out}"
    assert sammit("data", "check", out).code == 0
    recipe = tiny.recipe(tmp_path / "recipe.toml", out, training={"rounds": 1, "local_steps": 1})
    assert sammit("run", recipe, "--out", tmp_path / "run").code == 0
    assert set(json.loads((tmp_path / "run" / "summary.json").read_text())["sites"]) == {"monuseg2018", "tnbc"}


def test_help_lists_datasets_and_options(sammit: Call) -> None:
    said = sammit("data", "prepare", "--help")
    assert said.code == 0
    for word in ("prostate:", "fets2022:", "fundus:", "nuclei:", "disc (whole)", "partitioning_1.csv"):
        assert word in said.out


def test_the_list_for_scripts(sammit: Call) -> None:
    rows = json.loads(sammit("list", "preparations", "--json").out)
    assert [row["name"] for row in rows] == ["fets2022", "fundus", "nuclei", "prostate"]
    assert all(row["source"].startswith(("https://", "REFUGE", "PanNuke")) and row["licence"] for row in rows)
    assert "licence: " in sammit("list", "preparations").out


def test_refusals(tmp_path: Path, sammit: Call, mistake: Callable[..., str]) -> None:
    """One problem is the error itself; several are listed before it."""
    raw_fundus.g1020(tmp_path / "raw")
    out = tmp_path / "root"
    assert "did you mean 'fundus'?" in mistake("data", "prepare", "funds", tmp_path / "raw", out)
    assert "did you mean 'disc'?" in mistake("data", "prepare", "fundus", tmp_path / "raw", out, "--option", "disk=rim")
    for number in (0, 3):
        (tmp_path / "raw" / "G1020" / "Masks" / f"image_{number}.png").unlink()
    said = sammit("data", "prepare", "fundus", tmp_path / "raw", out)
    assert said.code == 2 and said.out.count("PROBLEM ") == 2
    assert (
        said.err == f"error: {tmp_path / 'raw'}: 2 problems in the files named above; mend them, nothing was written\n"
    )
    assert not out.exists()
