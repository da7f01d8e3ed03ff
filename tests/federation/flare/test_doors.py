"""A deployed run is the local run; who gets in, and what gets out: every byte that two sites send in a whole run."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

import tiny

pytest.importorskip("nvflare", reason="the extra `flare` is not installed")

from federation.flare.real import MEMBER, SITES, Federation, job
from sammit.data.phantom import draw_eye, write_png
from sammit.errors import UserError
from sammit.federation.flare import admin
from sammit.federation.flare.checks import certificate, check_site, server
from sammit.federation.flare.kit import Project, kits_of, provision, write_project
from sammit.federation.premises import load_premises
from sammit.federation.preview import preview
from sammit.runs import read_state

pytestmark = [pytest.mark.slow, pytest.mark.flare]

SECRET = "Qz7Vw"
"""In every patient's and file's name."""


def named_sites(folder: Path) -> None:
    """The tiny sites, with names that no message has by chance."""
    for site, look in tiny.LOOKS.items():
        for patient in range(look.patients):
            for image in range(2):
                pixels, labels = draw_eye(look, (0, site, patient, image))
                name = f"{SECRET}patient{patient:02d}-{image}.png"
                write_png(folder / site / "images" / name, pixels)
                write_png(folder / site / "masks" / name, labels)
    toml = f'patient = "^({SECRET}patient[0-9]+)-"\n\n[structures]\ndisc = [1, 2]\ncup = 2\n'
    (folder / "dataset.toml").write_text(toml)


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    """Server and sites; all that the sites send is kept."""
    made = Federation(tmp_path_factory.mktemp("federation"), named_sites)
    (made.folder / "tap").mkdir()
    with made.party:
        made.start("localhost")
        for site in SITES:
            made.start(site, SAMMIT_TAP=str(made.folder / "tap"))
        yield made


@pytest.fixture(scope="module")
def tapped(federation: Federation) -> Federation:
    """After a whole run of pFedSAM."""
    what = tiny.experiment(federation.data, "pfedsam")
    assert federation.carry_out(job("tapped", what))[0] == ""
    return federation


def test_a_deployed_run_is_the_local_run(tapped: Federation, tmp_path: Path) -> None:
    """Shared and personal tensors bit for bit, and every loss, score and byte of the log."""
    what = tiny.experiment(tapped.data, "pfedsam")
    local, server = tiny.run(what, tmp_path / "local"), tapped.run_folder("tapped")
    for name in ("global", "last"):
        ours, theirs = (out / "models" / f"{name}.safetensors" for out in (server, local))
        assert read_state(ours)[0].keys() == read_state(theirs)[0].keys()
        assert ours.read_bytes() == theirs.read_bytes()
    for here, there in zip(tiny.rows(server), tiny.rows(local), strict=True):
        assert {**here, "seconds": 0} == {**there, "seconds": 0}
    for site in SITES:
        personal = Path("models") / "sites" / f"{site}.safetensors"
        assert (tapped.site_folder(site, "tapped") / personal).read_bytes() == (local / personal).read_bytes()


def test_what_leaves_is_what_was_shown_and_nothing_private(tapped: Federation, tmp_path: Path) -> None:
    """All frames of both sites in a whole run, before they are encrypted."""
    federation = tapped
    what = tiny.experiment(federation.data, "pfedsam")
    shown = {
        site: preview(what, site, load_premises(federation.kits / site), tmp_path / "shown" / site) for site in SITES
    }
    taps = [path.read_bytes() for path in (federation.folder / "tap").iterdir()]
    assert len(taps) >= 2 * len(SITES)  # of each site the client and its job

    told = 0
    for site, rows in shown.items():
        lines = (federation.home(site) / "audit.jsonl").read_text().splitlines()
        sent = [line for line in map(json.loads, lines) if line["what"] == "answers"]
        told += sum(line["bytes"] for line in sent)
        assert [line["bytes"] for line in sent[:3]] == [row["bytes"] for row in rows[:3]]
        updates = {line["bytes"] for line in sent if line["reply"] == "Update"}
        assert max(updates) - rows[2]["bytes"] < 200  # digits of numbers in the header
        first = (tmp_path / "shown" / site / rows[2]["file"]).read_bytes()
        assert any(first[-100_000:-1000] in tap for tap in taps), "the tap does not see what leaves"
    assert told < sum(map(len, taps)) < told + 2_000_000  # the engine's own words

    everything = b"".join(taps)
    private = [b"mixture", b"optimiser", b"personal.", SECRET.encode(), str(federation.folder / "sites").encode()]
    private += [str(federation.home(site)).encode() for site in SITES]
    assert not [word for word in private if word in everything]
    assert not [row for row in pixels(federation.data) if row in everything]


def pixels(data: Path) -> Iterator[bytes]:
    """Rows of every image and mask, as bytes and as the numbers that a model sees."""
    from PIL import Image

    for path in data.rglob("*.png"):
        whole = np.asarray(Image.open(path))
        for row in whole:
            middle = np.ascontiguousarray(row[8:24])
            if len(np.unique(middle)) > 4:
                yield middle.tobytes()
                yield (middle.astype(np.float32) / np.float32(255)).tobytes()
                yield (middle.astype(np.float32)).tobytes()
        yield path.read_bytes()[40:100]


def test_a_member_may_look_but_not_submit(federation: Federation) -> None:
    what = tiny.experiment(federation.data)
    with federation.session(MEMBER) as session:
        federation.wait_for_sites(session)
        with pytest.raises(UserError, match="may not submit; use the kit of the lead"):
            admin.submit(session, job("not-theirs", what))


def test_a_stranger_is_refused_at_the_door(federation: Federation, tmp_path: Path) -> None:
    """Another federation's certificate, for a site of the same name; then none at all."""
    write_project(tmp_path, Project("other", "localhost", SITES, 8002))
    provision(tmp_path / "project.yml", tmp_path / "kits")
    kit = tmp_path / "kit"
    shutil.copytree(federation.kits / "aster" / "startup", kit / "startup")
    assert "certificates agree" in server(kit / "startup")
    for file in ("client.crt", "client.key"):
        shutil.copy(kits_of(tmp_path) / "aster" / "startup" / file, kit / "startup" / file)
    with pytest.raises(UserError, match="answers, but refuses this kit; ask for a new kit"):
        server(kit / "startup")


def test_no_certificate_no_answer(federation: Federation) -> None:
    import socket
    import ssl

    context = ssl.create_default_context(cafile=str(federation.kits / "aster" / "startup" / "rootCA.pem"))
    context.check_hostname = False
    context.set_alpn_protocols(["h2"])
    target = json.loads((federation.kits / "aster" / "startup" / "fed_client.json").read_text())["servers"][0]
    host, port = target["service"]["target"].split(":")
    hung_up = contextlib.suppress(ssl.SSLError, ConnectionError)
    with hung_up, socket.create_connection((host, int(port)), 5) as plain, context.wrap_socket(plain) as secure:
        assert secure.recv(9) == b"", "the server talks to nobody in particular"


def test_a_certificate_that_ends_is_spoken_of(federation: Federation) -> None:
    path = federation.kits / "aster" / "startup" / "client.crt"
    assert "ask for a new kit soon" in certificate(path, datetime.now(UTC) + timedelta(days=340))
    with pytest.raises(UserError, match=r"valid from .* to .* only; ask for a new kit"):
        certificate(path, datetime.now(UTC) + timedelta(days=400))


def test_a_site_that_could_take_part_is_told_so(federation: Federation) -> None:
    """Every finding is good but the disk's, which depends on the machine."""
    findings = {finding.what: finding for finding in check_site(federation.kits / "aster")}
    assert all(findings[what].good for what in ("certificate", "server", "data")), findings
    assert SECRET not in findings["data"].text
