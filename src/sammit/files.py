"""Writing files so that a reader never sees half of one.

Everything Sammit writes goes through `write_atomically`: a temporary file beside the target, flushed to the disk,
then renamed over it. A kill leaves either the old file or the new one.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

from sammit.errors import UserError


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
        with draft.open("rb+") as handle:
            os.fsync(handle.fileno())
        draft.replace(path)
    except Exception as error:
        draft.unlink(missing_ok=True)
        raise _explain(error, path) from error


def _explain(error: Exception, path: Path) -> Exception:
    """Turn the disk's complaints into a line for the user; leave other errors as they are.

    safetensors reports a full disk as its own error type with the system's text, hence the look at the message.
    """
    text = str(error)
    full = (isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)) or "No space left" in text
    if full:
        return UserError(f"the disk is full while writing {path}: free some space, then run again")
    if isinstance(error, PermissionError):
        return UserError(f"no permission to write {path}: choose another folder with --out")
    return error


def sha256_of_file(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal, read in pieces."""
    digest = sha256()
    with path.open("rb") as handle:
        while piece := handle.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()
