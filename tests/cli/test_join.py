"""`sammit run --from RUN --site NEW`."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import tiny
from cli.conftest import Sammit


@pytest.fixture
def source(tmp_path: Path, sites: Path) -> Path:
    """A run of one of the two sites."""
    table = {"data": {"sites": ["birch"], "size": 16}, "training": {"rounds": 1, "local_steps": 1}}
    return tiny.run(tiny.experiment(sites, "local_only", **table), tmp_path / "run")


def test_a_site_joins_and_predicts(source: Path, sites: Path, tmp_path: Path, sammit: Sammit) -> None:
    """A line a model, the table, one sentence, a report; its models take images."""
    out = tmp_path / "joined"
    said = sammit("run", "--from", source, "--site", "aster", "--out", out, "--cases", "2,all", "--set",
                  "training.local_steps=1")  # fmt: skip
    assert said.code == 0, said.err
    assert "cases-2, 2 cases of 2 patients: Dice" in said.out and "| own part, all 4 labelled cases of 2" in said.out
    assert "With 4 labelled cases of 2 patients, aster's own part brings" in said.out
    assert (out / "report.html").is_file()
    image = next((sites / "aster" / "images").glob("*.png"))
    for site in ("aster", "aster-cases-2"):
        done = sammit("predict", out, image, "--out", tmp_path / site, "--site", site)
        assert done.code == 0 and len(list((tmp_path / site).iterdir())) == 2


MISTAKES = {
    "RECIPE: is missing; name one, or a run for a new site to join": ["run"],
    "--site and --cases go with --from RUN": ["run", "r.toml", "--site", "aster"],
    "r.toml: a new site joins with the recipe of the run": ["run", "r.toml", "--from", "RUN", "--site", "aster"],
    "--from: needs --site NEW": ["run", "--from", "RUN"],
    "--from: a join has no --resume": ["run", "--from", "RUN", "--site", "aster", "--resume"],
    "--start men: did you mean 'mean'?": ["run", "--from", "RUN", "--site", "aster", "--start", "men"],
    "--cases one: must be numbers": ["run", "--from", "RUN", "--site", "aster", "--cases", "one"],
    "RUN: is no run folder": ["run", "--from", "RUN", "--site", "aster"],
}


@pytest.mark.parametrize("message", MISTAKES)
def test_options_that_are_not_right(
    message: str, tmp_path: Path, mistake: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line; nothing is written."""
    monkeypatch.chdir(tmp_path)
    assert message in mistake(*MISTAKES[message])
    assert list(tmp_path.iterdir()) == []
    shutil.rmtree(tmp_path)
