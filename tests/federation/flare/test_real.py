"""Real processes, certificates and sockets: a run survives what kills its parts, and what one of them sends."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import pytest

import tiny

pytest.importorskip("nvflare", reason="the extra `flare` is not installed")

from federation.flare.real import SITES, Federation, job
from federation.poison import KINDS
from federation.test_leading import by_file, hospitals, untold
from sammit.errors import TellableError, UserError
from sammit.federation.flare import admin
from sammit.federation.hospital import Hospital
from sammit.federation.leading import lead

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    """Server and sites that run for all tests of this file."""
    made = Federation(tmp_path_factory.mktemp("federation"))
    with made.party:
        made.start_all()
        yield made


def shared(out: Path) -> bytes:
    """The shared tensors after the last round."""
    return (out / "models" / "last.safetensors").read_bytes()


def until(file: Path, seconds: float = 120) -> None:
    """Wait for a file."""
    end = time.monotonic() + seconds
    while not file.exists():
        assert time.monotonic() < end, f"{file.name} never came"
        time.sleep(0.1)


@pytest.mark.flare
def test_a_site_that_is_killed_in_a_round_misses_it_and_comes_back(
    federation: Federation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lead sees one run, and its result is that of a run in which the site failed in those rounds."""
    what = tiny.experiment(federation.data, "pfedsam", training={"rounds": 4})
    stalled = tmp_path / "stalled"
    federation.restart("aster", SAMMIT_PACE="2")
    federation.restart("birch", SAMMIT_STALL=str(stalled))
    with ThreadPoolExecutor() as pool:
        followed = pool.submit(federation.carry_out, job("killed-site", what))
        until(stalled)
        federation.restart("birch")
        problem, rows = followed.result(timeout=240)
    federation.restart("aster")
    assert problem == "" and [row["round"] for row in rows] == sorted({row["round"] for row in rows})
    server = federation.run_folder("killed-site")
    log = tiny.rows(server)
    missed = {row["round"] for row in log if "birch" in row["failed"]}
    assert 1 in missed and "is lost" in log[1]["failed"]["birch"] and not missed & {0, 3}
    carry_out = Hospital._carry_out

    def fails(self: Hospital, order: Any) -> Any:
        if self.name == "birch" and order.round in missed and order.kind in ("train", "evaluate"):
            raise TellableError("is lost")
        return carry_out(self, order)

    monkeypatch.setattr(Hospital, "_carry_out", fails)
    wanted = tmp_path / "wanted"
    lead(wanted, what, SITES, by_file(hospitals(federation.data, tmp_path / "own"), wanted), untold)
    assert shared(server) == shared(wanted)


@pytest.mark.flare
def test_a_server_that_is_killed_in_a_round_goes_on_to_the_same_end(federation: Federation, tmp_path: Path) -> None:
    """Under the same name; no site applies a round twice: what it keeps is the undisturbed run's, too."""
    what = tiny.experiment(federation.data, "pfedsam", training={"rounds": 3})
    stalled = tmp_path / "stalled"
    federation.restart("birch", SAMMIT_STALL=str(stalled))
    with federation.session() as session:
        federation.wait_for_sites(session)
        admin.submit(session, job("killed-server", what))
    until(stalled)
    federation.restart("localhost")
    with federation.session() as session:
        federation.wait_for_sites(session)
        with pytest.raises(UserError, match="there is a run of this name; add --resume"):
            admin.submit(session, job("killed-server", what))
        assert admin.carried(session, job("killed-server", what, resume=True), untold, 0.5) == ""
    local = tiny.run(what, tmp_path / "local")
    assert shared(federation.run_folder("killed-server")) == shared(local)
    for site in SITES:
        personal = Path("models") / "sites" / f"{site}.safetensors"
        own = federation.site_folder(site, "killed-server")
        assert (own / personal).read_bytes() == (local / personal).read_bytes()


def test_poison_is_refused_by_name_and_the_others_go_on(federation: Federation) -> None:
    """One site sends something else in each round; the other's update counts, and the log says what was refused."""
    count = len(KINDS)
    training = {"rounds": count + 1, "local_steps": 1}
    what = tiny.experiment(federation.data, "pfedsam", training=training, evaluation={"every": 0, "selection": "last"})
    federation.restart("birch", SAMMIT_POISON="1")
    assert federation.carry_out(job("poisoned", what)) == ("", ANY)
    federation.restart("birch")
    rows = tiny.rows(federation.run_folder("poisoned"))
    for row, (name, (_, reason)) in zip(rows, KINDS.items(), strict=False):
        assert list(row["loss"]) == ["aster"], name
        assert re.search(reason, row["failed"]["birch"]), (name, row["failed"])
    assert rows[count]["failed"] == {} and list(rows[count]["loss"]) == ["aster", "birch"]
