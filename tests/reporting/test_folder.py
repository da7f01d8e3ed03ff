"""Run folders, whole, poor and broken."""

from __future__ import annotations

from pathlib import Path

import pytest

from sammit.errors import UserError
from sammit.reporting.folder import read_run
from sammit.reporting.sentences import doubts, failures, missing, undefined, what_ran, worst

from .fake import FakeRun, make_run


def test_a_whole_folder(full_run: Path) -> None:
    run = read_run(full_run)
    assert len(run.rounds) == 6 and run.rounds[3].failed and not run.rounds[1].validation["global"]
    assert run.cases and run.config and run.environment and run.router
    assert list(run.pictures) == list(run.summary["sites"])
    assert [kind for kind, _ in run.pictures["REFUGE"]] == ["best", "median", "worst"]
    assert missing(run) == {}


def test_what_is_said_of_a_run(full_run: Path) -> None:
    run = read_run(full_run)
    assert "at 4 sites (Drishti-GS, RIGA-Magrabia, RIM-ONE r3 and REFUGE) for 6 rounds" in what_ran(run.summary)
    assert "worst site is REFUGE" in worst(run.summary)
    assert undefined(run.summary)[0].startswith("HD95 is undefined for 1 score at REFUGE")
    assert "REFUGE (2 patients)" in doubts(run.summary)[0]
    assert failures(run.rounds) == ["Round 3: RIGA-Magrabia gave no update (no answer within 600 s)."]


def test_a_server_without_cases(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "server", FakeRun(distances=False), pictures=False, router=False)
    for name in ("cases.csv", "config.toml", "environment.json", "rounds.jsonl"):
        (folder / name).unlink()
    run = read_run(folder)
    assert set(missing(run)) == {"cases", "config", "environment", "rounds", "router", "pictures"}
    assert undefined(run.summary) == []


def test_what_diverged_leaves_a_gap(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", FakeRun(), pictures=False)
    (folder / "rounds.jsonl").write_text('{"round": 0, "loss": {"A": NaN, "B": 1.5}, "validation": null}\n\n')
    assert read_run(folder).rounds[0].loss == {"B": 1.5}


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("rounds.jsonl", '{"round": 0, "loss": {}}\n{"round": 1, "lo', "rounds.jsonl, line 2"),
        ("router.json", "[1]", "must hold a JSON object"),
        ("environment.json", "{", "not a JSON file"),
        ("summary.json", "{}", "no summary of a run"),
    ],
)
def test_broken_files_are_named(tmp_path: Path, name: str, text: str, complaint: str) -> None:
    folder = make_run(tmp_path / "run", FakeRun(), pictures=False)
    (folder / name).write_text(text)
    with pytest.raises(UserError, match=complaint):
        read_run(folder)


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such run folder"):
        read_run(tmp_path / "nowhere")
