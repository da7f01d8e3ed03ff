"""What came to a site and what left it, a line each, chained so that no line can be changed or taken out unseen.

A line names runs, rounds, kinds, counts, bytes and hashes: no patient, file or path. Its "chain" is the SHA-256 of the
line before and of its own content, so the last line vouches for all; whoever keeps a copy of that one elsewhere can
show later that nothing was rewritten.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

from sammit.errors import UserError

START = "0" * 64
"""The chain before the first line."""


class Audit:
    """The log of one site; one process writes it at a time."""

    def __init__(self, path: Path) -> None:
        """Go on with the log in `path`; raises UserError where it has been changed."""
        self.path = path
        self._chain, self._count = START, 0
        for line in _lines(path):
            self._chain, self._count = str(line["chain"]), self._count + 1

    def note(self, what: str, **facts: Any) -> None:
        """Add a line; it is on the disk when this returns."""
        content = {
            "line": self._count,
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "what": what,
            **facts,
        }
        chain = _chained(self._chain, content)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(handle, (json.dumps({**content, "chain": chain}) + "\n").encode())
            os.fsync(handle)
        finally:
            os.close(handle)
        self._chain, self._count = chain, self._count + 1


def check(path: Path) -> tuple[int, str]:
    """How many lines a log has, and its last chain; raises UserError where a line does not follow from that before."""
    chain, count = START, 0
    for line in _lines(path):
        chain, count = str(line["chain"]), count + 1
    return count, chain


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """The log's lines, each checked; a last one that a crash cut short is not there."""
    chain = START
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    for number, raw in enumerate(text.splitlines(keepends=True), 1):
        if not raw.endswith("\n"):
            raise UserError(f"{path}: line {number} is cut short; keep a copy of the log, then remove that line")
        try:
            line = dict(json.loads(raw))
            found = line.pop("chain")
        except (ValueError, KeyError, TypeError):
            raise UserError(f"{path}: line {number} is no line of an audit log; it has been changed") from None
        if found != _chained(chain, line):
            raise UserError(f"{path}: line {number} does not follow from the one before; the log has been changed")
        chain = found
        yield {**line, "chain": found}


def _chained(before: str, content: dict[str, Any]) -> str:
    return sha256((before + json.dumps(content)).encode()).hexdigest()
