"""Fetching published weights: resumed where it stopped, checked before it gets its name.

The bytes go to FILE.part; only when their checksum is right is it renamed to FILE, so that a file with the right name
is a whole file.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from ssl import SSLError
from typing import cast
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from sammit.errors import UserError
from sammit.models.official import Checkpoint, by_hand, checkpoint_named, is_whole, weights_folder

# Called with the bytes so far and the bytes in all (None if the server does not say).
Progress = Callable[[int, int | None], None]

TIMEOUT = 30.0  # seconds without a byte
_PIECE = 1 << 20


def fetch(name: str, folder: Path | None = None, progress: Progress | None = None, address: str | None = None) -> Path:
    """Download a model's published weights and check them; returns where they are.

    A file that is there and whole is left alone. A connection that breaks is taken up again as long as each attempt
    brings something; what arrived stays in FILE.part for the next call.

    Args:
        name: of the model ("sam-vit-b", "medsam-vit-b", ...).
        folder: where to put the file; None: `weights_folder()`.
        progress: called after every piece with bytes done and bytes in all.
        address: a mirror; None: the authors' own address. The checksum is the same for both.

    Raises:
        UserError: unknown name, no connection, the server refuses, the disk is full, or the bytes are wrong.
    """
    known, folder = checkpoint_named(name), folder or weights_folder()
    address = address or known.address
    if not address.startswith(("https://", "http://")):
        raise UserError(f"{address}: not an http or https address")
    target, part = folder / known.file, folder / f"{known.file}.part"
    if target.exists():
        if is_whole(target, known):
            return target
        raise UserError(f"{target}: is there but has another checksum than published: delete it, then run again")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _download(address, part, known, progress)
        _settle(part, target, known, address)
    except OSError as error:
        raise _explained(error, folder) from error
    return target


def _download(address: str, part: Path, known: Checkpoint, progress: Progress | None) -> None:
    """Bring `part` to its full length, in as many attempts as bring something."""
    while True:
        before = _length(part)
        try:
            done = _attempt(address, part, progress)
        except HTTPError as error:
            error.close()
            raise UserError(
                f"{address}: the server answered {error.code} {error.reason}: {by_hand(known, part.parent)}"
            ) from None
        except (URLError, TimeoutError, ConnectionError, SSLError, HTTPException) as error:
            done = False
            reason = str(getattr(error, "reason", "") or error) or type(error).__name__
        else:
            reason = "the connection closed early"
        if done:
            return
        if _length(part) <= before:
            rest = f" after {_length(part)} bytes, which are kept: run again to resume" if _length(part) else ""
            raise UserError(f"{address}: no connection ({reason}){rest or ': ' + by_hand(known, part.parent)}")


def _attempt(address: str, part: Path, progress: Progress | None) -> bool:
    """One connection; whether the file is now as long as the server says."""
    start = _length(part)
    headers = {"User-Agent": "sammit"} | ({"Range": f"bytes={start}-"} if start else {})
    try:
        answer = cast(HTTPResponse, urlopen(Request(address, headers=headers), timeout=TIMEOUT))
    except HTTPError as error:
        # 416: there is nothing beyond what is here; the checksum decides whether that is the file.
        if start and error.code == 416:
            error.close()
            return True
        raise
    with answer:
        if answer.status != 206:
            start = 0  # the server sends the whole file
        length = answer.headers.get("Content-Length")
        total = start + int(length) if length else None
        _need_space(part.parent, (total or 0) - start)
        done = _receive(answer, part, start, total, progress)
    return total is None or done == total


def _receive(answer: HTTPResponse, part: Path, start: int, total: int | None, progress: Progress | None) -> int:
    """Append the body to the first `start` bytes of `part`; returns its length."""
    done = start
    with part.open("r+b" if start else "wb") as handle:
        handle.seek(start)
        handle.truncate()
        while piece := answer.read(_PIECE):
            handle.write(piece)
            done += len(piece)
            if progress:
                progress(done, total)
        handle.flush()
        os.fsync(handle.fileno())
    return done


def _settle(part: Path, target: Path, known: Checkpoint, address: str) -> None:
    """Give the file its name if its bytes are right; remove it if they are not."""
    if not is_whole(part, known):
        part.unlink()
        raise UserError(
            f"{address}: what came is not {known.file} (wrong checksum) and was removed: run again, or "
            f"{by_hand(known, target.parent)}"
        )
    part.replace(target)


def _length(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _need_space(folder: Path, size: int) -> None:
    if shutil.disk_usage(folder).free < size:
        raise OSError(errno.ENOSPC, "No space left on device")


def _explained(error: OSError, folder: Path) -> Exception:
    """The disk's complaint as a line for the user."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return UserError(f"{folder}: the disk is full: free some space, or set SAMMIT_WEIGHTS to another folder")
    return UserError(f"{folder}: cannot be written ({error.strerror or error}): set SAMMIT_WEIGHTS to another folder")
