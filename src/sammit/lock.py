"""One process that writes in a folder at a time, whatever happens to it."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep

from sammit.errors import UserError

LOCK = ".lock"
"""The file that is locked; it stays, empty, when nobody holds it any more."""


@contextmanager
def locked(out: Path, what: str = "study", patience: float = 3.0) -> Iterator[int]:
    """Hold the folder as long as the context lasts.

    The lock is the kernel's and ends with the last process that has the descriptor open. A study's cells inherit it,
    so that a study which was killed cannot be started again while a cell of it still writes.

    Args:
        out: the folder, made if it is missing.
        what: writes there, for the message.
        patience: seconds to wait for the end of one that has just been killed.

    Yields:
        The descriptor.

    Raises:
        UserError: another one holds the folder, or it cannot be written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        file = (out / LOCK).open("w")
    except (FileExistsError, NotADirectoryError, PermissionError) as error:
        raise UserError(f"{out}: cannot be a {what}'s folder ({error.strerror}); choose another --out") from None
    with file:
        until = monotonic() + patience
        while not _taken(file.fileno()):
            if monotonic() > until:
                raise UserError(f"{out}: another {what} is running there; wait for it, or choose another --out")
            sleep(0.05)
        yield file.fileno()


def held(out: Path) -> bool:
    """Whether a process writes in the folder now; asked without writing, and too briefly to keep another one out."""
    try:
        with (out / LOCK).open() as file:
            fcntl.flock(file.fileno(), fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
