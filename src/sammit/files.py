"""Writing files so that a reader never sees half of one.

Everything Sammit writes goes through `write_atomically`: a temporary file beside the target, flushed to the disk,
then renamed over it. A kill leaves either the old file or the new one, and at most a draft, which `clear_drafts`
takes away.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from sammit.errors import UserError

_MASK = os.umask(0)  # the process's own; it can only be read by setting it
os.umask(_MASK)


class FullDiskError(UserError):
    """The disk does not take any more. One site's trouble where sites are apart, everyone's on one machine."""


def write_atomically(path: Path, data: bytes | str | Callable[[Path], object]) -> None:
    """Write `data` to `path`, whole or not at all.

    Args:
        path: the target; its folder is made if it is missing.
        data: bytes, text (UTF-8), or a function that writes the path it is given (same suffix as the target).

    Raises:
        UserError: the disk is full or the folder cannot be written; no temporary file stays behind.
    """
    draft = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if callable(data):
            data(draft)
        else:
            draft.write_bytes(data.encode() if isinstance(data, str) else data)
        draft.chmod(0o666 & ~_MASK)  # some writers make their files readable by their owner alone
        with draft.open("rb+") as handle:
            os.fsync(handle.fileno())
        draft.replace(path)
        flush_folder(path.parent)
    except BaseException as error:  # Ctrl-C too must not leave a draft
        with suppress(OSError):
            draft.unlink()
        if isinstance(error, Exception):
            raise _explain(error, path) from error
        raise


def flush_folder(folder: Path) -> None:
    """Bring a rename in `folder` to the disk, so that a later one cannot survive a power cut without it."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def is_draft(path: Path) -> bool:
    """Whether a file is one that `write_atomically` had not yet renamed."""
    return re.fullmatch(r"\..+\.[0-9]+\.part(\.[^.]*)?", path.name) is not None


def clear_drafts(folder: Path) -> None:
    """Remove what a killed process left half-written under `folder`."""
    for path in folder.rglob(".*"):
        if is_draft(path):
            path.unlink(missing_ok=True)


def _explain(error: Exception, path: Path) -> Exception:
    """Turn the disk's complaints into a line for the user; leave other errors as they are.

    safetensors reports a full disk as its own error type with the system's text, hence the look at the message.
    """
    text = str(error)
    full = (isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)) or "No space left" in text
    if full:
        return FullDiskError(f"the disk is full while writing {path}: free some space, then run again")
    if isinstance(error, PermissionError):
        return UserError(f"no permission to write {path}: choose another folder with --out")
    if isinstance(error, NotADirectoryError | FileExistsError):
        return UserError(f"{path.parent}: is no folder, or lies under a file; choose another folder with --out")
    return error


def sha256_of_file(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal, read in pieces."""
    digest = sha256()
    with path.open("rb") as handle:
        while piece := handle.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()
