"""What a run's folder tells of it at every moment, and what it tells where it is no run's or half there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import tiny
from sammit.errors import UserError
from sammit.federation import local
from sammit.lock import locked
from sammit.watching.run import RunSoFar, look_at_run


@pytest.fixture(scope="module")
def seen(sites: Path, tmp_path_factory: pytest.TempPathFactory) -> list[RunSoFar]:
    """A run as it was after its first round, when it was stopped there, and when it had ended."""
    out, views = tmp_path_factory.mktemp("watched") / "a run", []
    what = tiny.experiment(sites)

    def stop(row: dict[str, Any]) -> None:
        views.append(look_at_run(out))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        local.run(what, out, stop)
    views.append(look_at_run(out))
    local.run(what, out, lambda row: views.append(look_at_run(out)), resume=True)
    return [*views, look_at_run(out)]


def test_its_stages(seen: list[RunSoFar]) -> None:
    """Alive or not is known by the lock that the kernel takes from a dead process."""
    assert [one.stage for one in seen] == ["training", "stopped", "scoring", "finished"]
    assert [one.done for one in seen] == [1, 1, 2, 2] and all(one.rounds == 2 for one in seen)
    assert [one.over for one in seen] == [False, True, False, True]
    assert seen[0].left is not None and seen[1].left is None and seen[2].left == 0


def test_its_numbers_are_the_logs(seen: list[RunSoFar]) -> None:
    rows, last = tiny.rows(seen[-1].path), seen[-1]
    for site in last.sites:
        assert list(site.dice["global"]) == [row["validation"][site.name]["global"] for row in rows]
        assert list(site.loss) == [row["loss"][site.name] for row in rows]
        assert site.up == sum(row["up_bytes"][site.name] for row in rows)
    index, dice = last.best or (-1, 0.0)
    means = [sum(one["global"] for one in row["validation"].values()) / 2 for row in rows]
    assert index == last.summary["selected_round"] and dice == pytest.approx(max(means))


def test_how_it_goes_on(seen: list[RunSoFar]) -> None:
    """The folder's own recipe is the whole experiment, and a name with a blank stays one word."""
    assert seen[1].resume.endswith(" --resume") and "a run/config.toml' --out '" in seen[1].resume


def test_half_a_line_is_none(runs: dict[str, Path], tmp_path: Path) -> None:
    """A folder that is on its way from another machine."""
    whole = (runs["fedavg"] / "rounds.jsonl").read_bytes()
    (tmp_path / "config.toml").write_bytes((runs["fedavg"] / "config.toml").read_bytes())
    (tmp_path / "rounds.jsonl").write_bytes(whole[: len(whole) * 3 // 4])
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint" / "server.safetensors").write_bytes(b"\x10")
    seen = look_at_run(tmp_path)
    assert (seen.done, seen.stage, seen.best) == (1, "stopped", None)


def test_failures_are_named(tmp_path: Path, runs: dict[str, Path]) -> None:
    (tmp_path / "config.toml").write_bytes((runs["fedavg"] / "config.toml").read_bytes())
    row = tiny.rows(runs["fedavg"])[0] | {"failed": {"birch": "no answer"}, "loss": {"aster": 0.1}}
    (tmp_path / "rounds.jsonl").write_text(json.dumps(row) + "\n")
    assert look_at_run(tmp_path).failures == ["round 1: birch: no answer"]


def test_no_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no such folder yet"):
        look_at_run(tmp_path / "later")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="is a file; give the folder"):
        look_at_run(tmp_path / "file")
    with pytest.raises(UserError, match="is no run and no study"):
        look_at_run(tmp_path)
    with locked(tmp_path, "run"), pytest.raises(UserError, match="has only begun"):
        look_at_run(tmp_path)
