"""Decoded cases kept on disk and in memory, so that a file is decoded once and not once a run.

An entry's name is a hash of the sources' bytes, of how they are read, and of this format's version: what changes makes
another entry, nothing is ever stale. Files are written whole or not at all, so runs may share a folder; two that write
the same entry write the same bytes. A folder that cannot be written only means that this run decodes for itself.
"""

from __future__ import annotations

import json
import os
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

from sammit.data.decode import Entry, Facts
from sammit.data.formats import dicom_files
from sammit.errors import UserError
from sammit.files import sha256_of_file, write_atomically

VERSION = 2
MEMORY = 1 << 28  # bytes of entries held open; to map one again is cheap
OPEN = 1024  # entries held open; each is two maps, of which a process may have some 65,000


def default_folder() -> Path:
    """$SAMMIT_CACHE, or ~/.cache/sammit."""
    return Path(os.environ.get("SAMMIT_CACHE") or Path.home() / ".cache" / "sammit")


def key_of(sources: list[str], how: dict[str, Any]) -> str:
    """An entry's name.

    Args:
        sources: SHA-256 of the source files, in order.
        how: everything else that decides the entry's values, as plain JSON.
    """
    text = json.dumps({"version": VERSION, "sources": sources, "how": how}, sort_keys=True)
    return sha256(text.encode()).hexdigest()[:40]


def hash_of(path: Path) -> str:
    """SHA-256 of a file, or of a folder's DICOM files whatever their names and order.

    Raises:
        UserError: there is no such file.
    """
    if path.is_dir():
        return sha256(" ".join(sorted(sha256_of_file(file) for file in dicom_files(path))).encode()).hexdigest()
    if not path.is_file():
        raise UserError(f"{path}: there is no such file; check the path")
    return sha256_of_file(path)


class Cache:
    """Entries by name: the last used in memory, all on disk.

    Attributes:
        folder: where entries lie on disk.
        limit: bytes of entries held in memory or mapped, whatever the number of sites; the longest unused go first.
    """

    def __init__(self, folder: str | Path = "", limit: int = MEMORY) -> None:
        self.folder = Path(folder).expanduser() if str(folder) not in ("", ".") else default_folder()
        self.limit = limit
        self._held: OrderedDict[str, Entry] = OrderedDict()
        self._size = 0

    def get(self, key: str, make: Callable[[], Entry]) -> Entry:
        """The entry of a name; `make` is asked where there is none, or a broken one."""
        if key in self._held:
            self._held.move_to_end(key)
            return self._held[key]
        entry = self._held[key] = self._load(key) or self._store(key, make())
        self._size += entry.nbytes
        while (self._size > self.limit and len(self._held) > 1) or len(self._held) > OPEN:
            self._size -= self._held.popitem(last=False)[1].nbytes
        return entry

    def _path(self, key: str, kind: str) -> Path:
        return self.folder / key[:2] / f"{key}.{kind}"

    def _load(self, key: str) -> Entry | None:
        """An entry from disk, its arrays mapped; None where it is missing or broken."""
        import numpy as np

        try:
            table = json.loads(self._path(key, "json").read_text(encoding="utf-8"))
            # copy-on-write, for torch wants writable memory; nothing is written
            image, bits = (np.load(self._path(key, kind), "c").view(np.ndarray) for kind in ("image.npy", "bits.npy"))
            sound = list(image.shape) == table.pop("image") and list(bits.shape) == table.pop("bits")
            return Entry(image, bits, _facts(table)) if sound else None
        except (OSError, ValueError, KeyError, TypeError, EOFError):
            return None

    def _store(self, key: str, entry: Entry) -> Entry:
        """Write an entry; where the disk does not take it, memory has to do."""
        import numpy as np

        def save(array: np.ndarray) -> Callable[[Path], object]:
            return lambda path: np.save(path, array)

        table = {**asdict(entry.facts), "image": entry.image.shape, "bits": entry.bits.shape}
        try:
            write_atomically(self._path(key, "image.npy"), save(entry.image))
            write_atomically(self._path(key, "bits.npy"), save(entry.bits))
            write_atomically(self._path(key, "json"), json.dumps(table))  # last: it vouches for the others
        except (OSError, UserError):
            return entry
        return self._load(key) or entry


def _facts(table: dict[str, Any]) -> Facts:
    spacing = table.pop("spacing")
    present = tuple(tuple(slice_) for slice_ in table.pop("present"))
    return Facts(spacing=tuple(spacing) if spacing else None, present=present, **table)
