"""A run across hospitals, without an engine: the same as a local run, and nothing but aggregates at the server."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from sammit.errors import UserError
from sammit.federation.by_file import Answers, ByFile
from sammit.federation.hospital import Hospital
from sammit.federation.leading import Tell, lead
from sammit.federation.premises import Premises
from sammit.methods.base import Method
from sammit.plugins import load
from sammit.runs import read_state

QUICK = ("pfedsam", "scaffold", "feddg_elcfs", "fca")
"""A personal part, states at both ends, a survey, an extra: the other methods are slow in number alone."""

ACROSS = [
    pytest.param(name, marks=() if name in QUICK else pytest.mark.slow)
    for name in tiny.METHODS
    if not load("methods", name).Method.pooled
]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sites")
    tiny.make_sites(folder)
    return folder


def hospitals(root: Path, folder: Path) -> dict[str, Hospital]:
    """Each with its own copy of its images, nobody else's, and a folder for its state."""
    found = {}
    for name in tiny.LOOKS:
        data = folder / name / "images-of-ours"
        if not data.exists():
            shutil.copytree(root / name, data)
            shutil.copy(root / "dataset.toml", data)
        found[name] = Hospital(name, Premises(str(data), str(folder / name / "state")))
    return found


def by_file(sites: Mapping[str, Answers], out: Path) -> ByFile:
    """Messages go through files, beside the run's folder."""
    return ByFile(sites, out.with_name(f"{out.name}-mail"))


def untold(row: dict[str, Any]) -> None:
    """Nobody follows."""


def answered_by(
    sites: dict[str, Hospital], out: Path, method: str = "fedavg", tell: Tell = untold, **tables: dict[str, Any]
) -> Path:
    what = tiny.experiment(Path("nowhere"), method, **tables)
    return lead(out, what, tuple(tiny.LOOKS), by_file(sites, out), tell, resume=True).path


def led(root: Path, folder: Path, out: Path, method: str, **tables: dict[str, Any]) -> Path:
    return answered_by(hospitals(root, folder), out, method, **tables)


@pytest.mark.parametrize("method", ACROSS)
def test_a_run_across_hospitals_is_the_local_run(root: Path, tmp_path: Path, method: str) -> None:
    """Tensors bit for bit, every loss, score and byte of the log, and each site's own model."""
    local = tiny.run(tiny.experiment(root, method), tmp_path / "local")
    server = led(root, tmp_path / "sites", tmp_path / "server", method)
    ours, theirs = (read_state(out / "models" / "global.safetensors")[0] for out in (server, local))
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in theirs)
    for here, there in zip(tiny.rows(server), tiny.rows(local), strict=True):
        assert {**here, "seconds": 0} == {**there, "seconds": 0}
    summaries = [json.loads((out / "summary.json").read_text()) for out in (server, local)]
    for key in ("sites", "mean", "pooled", "worst_site", "parameters", "traffic", "selected_round"):
        assert summaries[0][key] == summaries[1][key]
    for site in tiny.LOOKS:
        (own,) = (tmp_path / "sites" / site / "state" / "runs").iterdir()
        personal = local / "models" / "sites" / f"{site}.safetensors"
        assert (own / personal.relative_to(local)).exists() == personal.exists()
        if personal.exists():
            assert (own / personal.relative_to(local)).read_bytes() == personal.read_bytes()
        assert (own / "report.html").is_file() and (own / "cases.csv").is_file()


def test_the_server_holds_aggregates_only(root: Path, tmp_path: Path) -> None:
    """No case, patient, path or personal tensor in any byte of its folder."""
    server = led(root, tmp_path / "sites", tmp_path / "server", "pfedsam")
    files = {str(path.relative_to(server)) for path in server.rglob("*") if path.is_file()}
    assert files == {
        ".lock",
        "run.json",
        "config.toml",
        "environment.json",
        "rounds.jsonl",
        "summary.json",
        "report.html",
        "models/global.safetensors",
        "models/last.safetensors",
        "checkpoint/server.safetensors",
    }
    for file in files - {"report.html"}:
        data = (server / file).read_bytes()
        assert not any(word in data for word in (b"p00", b"images-of-ours", str(tmp_path).encode(), b".mixture."))


class DiesError(Exception):
    """The server's process."""


def test_a_server_that_dies_goes_on_to_the_same_end(root: Path, tmp_path: Path) -> None:
    """After the first round; the sites are restarted too, with nothing but their folders."""

    def die(row: dict[str, Any]) -> None:
        raise DiesError

    whole = led(root, tmp_path / "undisturbed", tmp_path / "whole", "pfedsam")
    with pytest.raises(DiesError):
        answered_by(hospitals(root, tmp_path / "sites"), tmp_path / "out", "pfedsam", tell=die)
    out = led(root, tmp_path / "sites", tmp_path / "out", "pfedsam")
    assert (out / "models/global.safetensors").read_bytes() == (whole / "models/global.safetensors").read_bytes()
    for site in tiny.LOOKS:
        paths = [
            next((tmp_path / who / site / "state" / "runs").iterdir()) / "models" / "sites" / f"{site}.safetensors"
            for who in ("undisturbed", "sites")
        ]
        assert paths[0].read_bytes() == paths[1].read_bytes()


def test_a_site_that_takes_no_part_says_why(root: Path, tmp_path: Path) -> None:
    sites = hospitals(root, tmp_path / "sites")
    (Path(sites["birch"].premises.data) / "site.toml").write_text('methods = ["fedavg"]\n')
    with pytest.raises(UserError, match=r"site 'birch' does not take part: .* takes part in fedavg only, not in apfl"):
        answered_by(sites, tmp_path / "out", "apfl")


def test_a_site_without_a_structure_is_named(root: Path, tmp_path: Path) -> None:
    sites = hospitals(root, tmp_path / "sites")
    toml = Path(sites["birch"].premises.data) / "dataset.toml"
    toml.write_text(toml.read_text().replace("cup = 2\n", ""))
    with pytest.raises(UserError, match=r"site 'birch' has the structures disc, site 'aster' disc, cup: name the same"):
        answered_by(sites, tmp_path / "out")


def test_a_reason_names_nothing_of_the_site(root: Path, tmp_path: Path) -> None:
    """A mask is missing: the site's log says which, the server hears that something is wrong."""
    sites = hospitals(root, tmp_path / "sites")
    next((Path(sites["birch"].premises.data) / "masks").iterdir()).unlink()
    with pytest.raises(UserError, match=r"site 'birch' does not take part: could not answer") as caught:
        answered_by(sites, tmp_path / "out")
    assert "png" not in str(caught.value) and "/" not in str(caught.value)


def test_other_base_weights_are_refused(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sites = hospitals(root, tmp_path / "sites")
    original = Hospital._own

    def other(self: Hospital, tables: Any) -> tuple[Any, Method]:
        return original(self, {**tables, "seed": 9})

    monkeypatch.setattr(Hospital, "_own", other)
    with pytest.raises(UserError, match=r"site 'aster' starts from other base weights"):
        answered_by(sites, tmp_path / "out", model={"weights": "random"})
