"""Arrays kept on disk within a bound, each a file that says of itself whether it is whole.

A file holds half-precision numbers and a digest over its name and them. A name says everything that decides the
numbers, so several processes may share a folder: two that write one file write the same bytes, whole or not at all.
What does not fit its digest counts as missing. Where the bound is reached, the files that nobody has used for longest
go first.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from hashlib import blake2b
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from sammit.errors import UserError
from sammit.files import write_atomically

if TYPE_CHECKING:
    from torch import Tensor

DIGEST = 16  # bytes at a file's end
SLACK = 16  # the folder is looked at again after this part of the bound was written, for other processes write too

log = logging.getLogger(__name__)


class PrefixStore:
    """One folder of such files.

    Attributes:
        folder: where they lie; made when the first is written.
        limit: bytes that they may take together. Processes that write side by side may pass it, each by a sixteenth
            at most, until one of them looks again.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder, self.limit = folder, limit
        self._oldest: deque[tuple[int, int, Path]] = deque()
        self._size, self._unseen = 0, limit  # bytes in the folder, and written since it was looked at
        self._warned = False

    def get(self, name: str, shape: Sequence[int]) -> Tensor | None:
        """The array of a name, mapped from disk; None where it is missing or broken."""
        import numpy as np
        import torch

        path, size = self._path(name), 2 * prod(shape)
        try:
            # copy-on-write, for torch wants writable memory; nothing is written
            held = np.memmap(path, np.uint8, "c").view(np.ndarray)
        except (OSError, ValueError):  # an empty file cannot be mapped
            return None
        if held.size != size + DIGEST or held[size:].tobytes() != _digest(name, held[:size].data):
            return None
        with suppress(OSError):  # others' files may be read-only
            os.utime(path)
        return torch.from_numpy(held[:size].view(np.float16).reshape(tuple(shape)))

    def put(self, name: str, array: Tensor) -> None:
        """Write a half-precision array on the CPU; where the disk does not take it, it will be computed again."""
        data = array.contiguous().numpy().tobytes()
        try:
            self._make_room(len(data) + DIGEST)
            write_atomically(self._path(name), data + _digest(name, data))
        except (OSError, UserError) as error:
            if not self._warned:
                log.warning("%s: activations are not kept, and computed again each time (%s)", self.folder, error)
            self._warned = True

    def _make_room(self, wanted: int) -> None:
        """Count `wanted` bytes as written, and take as many files away as must go.

        Raises:
            UserError: those that are there cannot be taken away.
        """
        if self._unseen + wanted > self.limit // SLACK:
            self._look()
        for _ in range(2):
            self._drop_oldest(self.limit - wanted)
            if self._size + wanted <= self.limit:
                break
            self._look()
        else:
            raise UserError(f"{self.folder}: is full, and its files cannot be removed; remove them")
        self._size += wanted
        self._unseen += wanted

    def _drop_oldest(self, target: int) -> None:
        """Take files away, the longest unused first, until `target` bytes are left or each has had its turn."""
        while self._size > target and self._oldest:
            used, length, path = self._oldest.popleft()
            with suppress(OSError):
                if path.stat().st_mtime_ns == used:  # else it was used since, and has its turn after the next look
                    path.unlink()
                    self._size -= length

    def _look(self) -> None:
        """See what lies in the folder, the longest unused first."""
        found = []
        for path in self.folder.rglob("*.f16"):
            with suppress(OSError):  # another process has taken it away meanwhile
                facts = path.stat()
                found.append((facts.st_mtime_ns, facts.st_size, path))
        self._oldest = deque(sorted(found))
        self._size, self._unseen = sum(length for _, length, _ in found), 0

    def _path(self, name: str) -> Path:
        return self.folder / name[:2] / f"{name}.f16"


def _digest(name: str, data: bytes | memoryview) -> bytes:
    digest = blake2b(name.encode(), digest_size=DIGEST)
    digest.update(data)
    return digest.digest()
