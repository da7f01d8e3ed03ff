"""Whole runs whose sites send small updates: bytes, what stays, what leaves, and going on after a kill."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import tiny
from federation.tap import Tap, carried, named, undeclared
from federation.test_resume import differences
from sammit.federation.estimate import message_bytes
from sammit.federation.prepare import prepare
from sammit.federation.small import UNSENT
from sammit.recipe import experiment_from
from sammit.runs import read_state
from sammit.vocabulary import SmallUpdate

INT8 = {"updates": "int8", "batch_size": 1}


def table(sites: Path, method: str, **training: Any) -> dict[str, Any]:
    return tiny.table(sites, method, data={"size": 16}, training={**INT8, **training})


@pytest.fixture(scope="module")
def tapped(sites: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Tap, Path]:
    """A run of pFedSAM with small updates and moments kept, listened to."""
    out = tmp_path_factory.mktemp("small") / "run"
    what = tiny.experiment(sites, "pfedsam", data={"size": 16}, training={**INT8, "optimiser_state": "keep"})
    return Tap().run(what, out), out


def test_what_is_counted_is_what_was_sent(tapped: tuple[Tap, Path]) -> None:
    """Each site's update, byte for byte as it went over the line, and a quarter of the update in full."""
    tap, out = tapped
    sent = {(m.said.site, m.said.round): m.sent for m in tap.replies() if isinstance(m.said, SmallUpdate)}
    for row in tiny.rows(out):
        assert row["failed"] == {}
        assert row["up_bytes"] == {site: sent[site, row["round"]] for site in row["up_bytes"]}
    shared = 4 * tap.known.parameters()["shared"]
    assert max(sent.values()) < 0.3 * shared
    up = json.loads((out / "summary.json").read_text())["traffic"]["up_bytes_per_site_round"]
    assert up == sum(sent.values()) / len(sent)


def test_a_dry_run_knows_it_beforehand(tapped: tuple[Tap, Path]) -> None:
    """About: what the first steps of AdamW leave is regular, and a lossless pass finds more in it than in noise."""
    tap, out = tapped
    up, down = message_bytes(tap.known, "aster")
    row = tiny.rows(out)[-1]
    assert 0.4 * up < row["up_bytes"]["aster"] < 1.05 * up
    assert row["down_bytes"]["aster"] == pytest.approx(down, rel=1e-3)


def test_what_is_unsent_stays_until_the_end(tapped: tuple[Tap, Path]) -> None:
    """In the state that training goes on from, for every shared name; not in what the run leaves."""
    tap, out = tapped
    (folder, *_) = (out / "checkpoint" / "sites").iterdir()
    committed = read_state(folder / "committed.safetensors")[0]
    assert {f"{UNSENT}.{name}" for name in tap.known.shared} <= committed.keys()
    assert not any(name.startswith(UNSENT) for name in read_state(folder / "final.safetensors")[0])


def nothing_leaks(tap: Tap) -> bool:
    return undeclared(tap) == [] and named(tap, tap.known.personal) == [] and carried(tap) == []


def test_nothing_private_leaves(tapped: tuple[Tap, Path]) -> None:
    """Searched in the bytes as they are before the lossless pass."""
    tap, _ = tapped
    assert sum(isinstance(m.said, SmallUpdate) for m in tap.replies()) == 4
    assert nothing_leaks(tap)


@pytest.mark.slow
@pytest.mark.parametrize("method", tiny.METHODS)
def test_nothing_private_leaves_under_any_method(sites: Path, tmp_path: Path, method: str) -> None:
    """And every method runs, no update refused."""
    training = {**INT8, "optimiser_state": "keep", "optimiser": "sgd", "lr": 0.05, "clip": 0.0, "weight_decay": 0.0}
    tap = Tap().run(tiny.experiment(sites, method, data={"size": 16}, training=training), tmp_path / "run")
    assert nothing_leaks(tap)
    assert all(row["failed"] == {} for row in tiny.rows(tmp_path / "run"))


@pytest.mark.slow
def test_killed_before_every_seventeenth_rename(tmp_path: Path, sites: Path) -> None:
    """What is unsent is staged and committed with the rest."""
    assert differences(tmp_path, table(sites, "pfedsam", top_k=0.2), ["before"], 17) == []


@pytest.mark.slow
@pytest.mark.parametrize("method", ["pfedsam", "apple", "fca", "fedavg"])
def test_killed_before_every_rename(tmp_path: Path, sites: Path, method: str) -> None:
    assert differences(tmp_path, table(sites, method), ["before", "after"]) == []


@pytest.mark.slow
def test_killed_where_ranks_differ_and_factors_are_made_anew(tmp_path: Path, sites: Path) -> None:
    """Sites that send other shapes, and leave out nothing of factors that the next round does not have."""
    what = table(sites, "fedavg")
    what["model"]["adapter"] = ["lora"]
    what["method"] |= {"aggregator": "flexlora", "flexlora": {"ranks": {"birch": 2}}}
    assert differences(tmp_path, what, ["before"], 5) == []
    prepared = prepare(experiment_from(what))
    committed = read_state(tmp_path / "whole" / "checkpoint" / "sites" / "birch" / "committed.safetensors")[0]
    unsent = {name.removeprefix(f"{UNSENT}.") for name in committed if name.startswith(UNSENT)}
    assert unsent == {name for name in prepared.shared if "lora" not in name}
