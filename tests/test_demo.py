"""The demo at its smallest: the folders and the report that it promises."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import tiny
from sammit import demo
from sammit.errors import UserError
from sammit.methods.stages import first_steps


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two tiny sites, two tiny rounds."""
    training = {"rounds": 2, "local_steps": 2, "batch_size": 2, "threads": 1}
    monkeypatch.setattr(demo, "COMMON", {"data": {"view": "whole", "size": 16}, "training": training})
    monkeypatch.setattr(demo, "DEMO", tiny.LOOKS)
    plain = {name: {key: own[key] for key in ("method", "model")} for name, own in demo.METHODS.items()}
    plain["pfedsam"] = {**plain["pfedsam"], "method": {"name": "pfedsam"}}
    monkeypatch.setattr(demo, "METHODS", plain)


@pytest.mark.slow
def test_the_demo_s_folders_and_report(
    tmp_path: Path, small: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run folder for each method and seed, one report, one table."""
    from sammit.cli.run import demo as command

    out = tmp_path / "demo"
    command(out, 2)
    names = {path.name for path in out.iterdir()}
    assert names == {"sites", "local_only", "fedmsa", "pfedsam", "seed-1", "report.html"}
    for base in (out, out / "seed-1"):
        for name in ("local_only", "fedmsa", "pfedsam"):
            assert (base / name / "summary.json").is_file()
    assert (out / "report.html").stat().st_size > 10_000
    said = capsys.readouterr().out
    assert all(name in said for name in ("local_only", "fedmsa", "pfedsam"))
    assert "report: " in said


def test_every_method_takes_as_many_steps(tmp_path: Path) -> None:
    """In all rounds and, where there is one, the last local stage."""
    taken = set()
    for name in demo.METHODS:
        what = demo.demo_experiment(name, tmp_path, 0)
        options, steps = what.method.options, what.training.local_steps
        local = steps - first_steps(steps, options.get("global_share", 1.0))
        taken.add(steps * what.training.rounds + local * options.get("final_local_epochs", 0))
    assert len(taken) == 1


def test_rounds_are_told_of(tmp_path: Path, small: None) -> None:
    """Of each method, with the steps of each site."""
    told: list[tuple[str, dict[str, Any]]] = []
    folders = demo.demo(tmp_path / "demo", [3], lambda name, row: told.append((name, row)))
    assert [name for name, _ in folders] == ["local_only", "fedmsa", "pfedsam"]
    assert [name for name, _ in told] == ["local_only"] * 2 + ["fedmsa"] * 2 + ["pfedsam"] * 2
    assert {tuple(row["steps"].values()) for _, row in told} == {(2, 2)}


def test_a_folder_in_use_is_refused(tmp_path: Path, small: None) -> None:
    """Before anything is made."""
    (tmp_path / "note").write_text("mine")
    with pytest.raises(UserError, match="is not empty"):
        demo.demo(tmp_path, [0], lambda name, row: None)
    assert [path.name for path in tmp_path.iterdir()] == ["note"]
