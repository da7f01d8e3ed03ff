"""Fetching over loopback: whole, resumed, interrupted, refused, wrong."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from hashlib import md5, sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from sammit.errors import UserError
from sammit.models import official
from sammit.models.official import Checkpoint
from sammit.models.weights import fetch, list_weights

CONTENT = bytes(range(256)) * 12_000  # 3 MB, three pieces


class Server(ThreadingHTTPServer):
    """Serves `content`; the knobs make it behave as real ones do.

    Attributes:
        cuts: bytes after which to drop the connection, one for each request to come; then whole answers.
        ranges: whether it honours Range.
        status: an error to answer with; 0: none.
        seen: the Range header of each request.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.ranges, self.status = CONTENT, True, 0
        self.cuts: list[int] = []
        self.seen: list[str | None] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/weights.pth"


class Handler(BaseHTTPRequestHandler):
    """One request."""

    server: Server

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.seen.append(wanted)
        start = int(re.findall(r"\d+", wanted)[0]) if wanted and self.server.ranges else 0
        if self.server.status or start >= len(self.server.content):
            self.send_error(self.server.status or 416)
            return
        body = self.server.content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: self.server.cuts.pop(0)] if self.server.cuts else body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server whose content is known under the name "sam-vit-b"."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    known = Checkpoint("sam-vit-b", "b.pth", "https://example.org/b.pth", 3, sha256(CONTENT).hexdigest())
    monkeypatch.setitem(official.OFFICIAL, "sam-vit-b", known)
    with Server() as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def refusal(server: Server, folder: Path) -> str:
    """The one line with which a fetch fails."""
    with pytest.raises(UserError) as caught:
        fetch("sam-vit-b", folder, address=server.address)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_whole(server: Server, tmp_path: Path) -> None:
    steps: list[tuple[int, int | None]] = []
    path = fetch("sam-vit-b", tmp_path / "new", lambda done, total: steps.append((done, total)), server.address)
    assert path == tmp_path / "new" / "b.pth"
    assert path.read_bytes() == CONTENT
    assert [p.name for p in path.parent.iterdir()] == ["b.pth"]
    assert steps[-1] == (len(CONTENT), len(CONTENT)) and steps == sorted(steps)
    assert next(row.state for row in list_weights(path.parent) if row.name == "sam-vit-b") == "present"
    fetch("sam-vit-b", tmp_path / "new", address=server.address)
    assert len(server.seen) == 1, "a whole file is not fetched again"


def test_a_broken_connection_is_taken_up_where_it_stopped(server: Server, tmp_path: Path) -> None:
    server.cuts = [1_000_000, 500_000]
    assert fetch("sam-vit-b", tmp_path, address=server.address).read_bytes() == CONTENT
    assert server.seen == [None, "bytes=1000000-", "bytes=1500000-"]


def test_an_interrupted_fetch_resumes_in_the_next(server: Server, tmp_path: Path) -> None:
    server.cuts = [1_000_000, 0]
    text = refusal(server, tmp_path)
    assert "1000000 bytes" in text and "run again" in text
    assert not (tmp_path / "b.pth").exists()
    assert fetch("sam-vit-b", tmp_path, address=server.address).read_bytes() == CONTENT
    assert server.seen[-1] == "bytes=1000000-"


def test_a_server_without_ranges_starts_over(server: Server, tmp_path: Path) -> None:
    (tmp_path / "b.pth.part").write_bytes(CONTENT[:1000])
    server.ranges = False
    assert fetch("sam-vit-b", tmp_path, address=server.address).read_bytes() == CONTENT


def test_a_part_that_is_already_whole(server: Server, tmp_path: Path) -> None:
    """Killed between the last byte and the rename."""
    (tmp_path / "b.pth.part").write_bytes(CONTENT)
    assert fetch("sam-vit-b", tmp_path, address=server.address).read_bytes() == CONTENT


@pytest.mark.parametrize("left", [b"", b"other" * 100], ids=["fresh", "resumed on foreign bytes"])
def test_wrong_bytes_are_removed(server: Server, tmp_path: Path, left: bytes) -> None:
    server.content = CONTENT[:-1] + b"!"
    if left:
        (tmp_path / "b.pth.part").write_bytes(left)
    assert "wrong checksum" in refusal(server, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_md5_where_nothing_better_is_published(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = md5(CONTENT, usedforsecurity=False).hexdigest()
    monkeypatch.setitem(
        official.OFFICIAL, "medsam-vit-b", Checkpoint("medsam-vit-b", "m.pth", "https://x", 3, None, digest)
    )
    assert fetch("medsam-vit-b", tmp_path, address=server.address).name == "m.pth"


def test_the_server_refuses(server: Server, tmp_path: Path) -> None:
    server.status = 404
    text = refusal(server, tmp_path)
    assert "404" in text and "https://example.org/b.pth" in text and str(tmp_path / "b.pth") in text


def test_no_connection(server: Server, tmp_path: Path) -> None:
    server.shutdown()
    server.server_close()
    text = refusal(server, tmp_path)
    assert "no connection" in text and f"put it at {tmp_path / 'b.pth'}" in text


def test_a_server_that_falls_silent(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sammit.models.download.TIMEOUT", 0.2)
    monkeypatch.setattr(Handler, "do_GET", lambda self: __import__("time").sleep(0.6))
    assert "timed out" in refusal(server, tmp_path)


def test_a_full_disk(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 10, 0))  # type: ignore[attr-defined]
    text = refusal(server, tmp_path)
    assert "disk is full" in text and "SAMMIT_WEIGHTS" in text


def test_a_folder_that_cannot_be(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "cannot be written" in refusal(server, tmp_path / "file" / "weights")


def test_a_foreign_file_is_not_overwritten(server: Server, tmp_path: Path) -> None:
    (tmp_path / "b.pth").write_text("mine")
    assert "delete it" in refusal(server, tmp_path)
    assert (tmp_path / "b.pth").read_text() == "mine"


@pytest.mark.parametrize(
    ("name", "address", "says"),
    [
        ("sam-tiny", None, "ships with Sammit"),
        ("sam-vit-x", None, "did you mean"),
        ("sam-vit-b", "file:///etc/hostname", "not an http"),
    ],
)
def test_what_cannot_be_fetched(tmp_path: Path, name: str, address: str | None, says: str) -> None:
    with pytest.raises(UserError, match=says):
        fetch(name, tmp_path, address=address)
    assert list(tmp_path.iterdir()) == []


def test_the_registry_is_whole() -> None:
    """Each entry has a checksum and an https address that ends in its file."""
    for name, known in official.OFFICIAL.items():
        assert known.name == name and known.address.startswith("https://") and known.address.endswith(known.file)
        assert re.fullmatch(r"[0-9a-f]{64}", known.sha256 or "") or re.fullmatch(r"[0-9a-f]{32}", known.md5 or "")
