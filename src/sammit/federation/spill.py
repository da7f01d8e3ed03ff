"""Updates that wait on disk: those that came before their turn, and all of them where a rule needs all at once."""

from __future__ import annotations

import json
import shutil
from collections.abc import ItemsView, Iterator, Mapping
from dataclasses import dataclass, replace
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import torch
from torch import Tensor

from sammit.errors import UserError
from sammit.methods.state import with_prefix
from sammit.runs import write_state
from sammit.vocabulary import Reply, SmallUpdate, Update

AnyReply = TypeVar("AnyReply", bound=Reply)

TYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
"""What safetensors calls the types that travel."""


@dataclass(frozen=True)
class _Place:
    """Where a tensor is in a file, and as what."""

    start: int
    dtype: torch.dtype
    shape: tuple[int, ...]

    def read(self, file: FileIO, path: Path) -> Tensor:
        tensor = torch.empty(self.shape, dtype=self.dtype)
        file.seek(self.start)
        if file.readinto(tensor.view(-1).view(torch.uint8).numpy().data) != tensor.nbytes:
            raise UserError(f"{path}: was cut short while the run used it; --resume repeats the round")
        return tensor


class Stored(Mapping[str, Tensor]):
    """Tensors of a safetensors file by name, each read when it is asked for: none stays in memory.

    `items` reads them in the order of the file, which is opened once.
    """

    def __init__(self, path: Path, prefix: str) -> None:
        """Those under "PREFIX." in a file, the prefix taken off."""
        self.path = path
        start = f"{prefix}."
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length))
        entries = {name.removeprefix(start): entry for name, entry in header.items() if name.startswith(start)}
        self.places = {
            name: _Place(8 + length + entry["data_offsets"][0], TYPES[entry["dtype"]], tuple(entry["shape"]))
            for name, entry in sorted(entries.items(), key=lambda item: item[1]["data_offsets"][0])
        }

    def __getitem__(self, name: str) -> Tensor:
        place = self.places[name]
        with self.path.open("rb", buffering=0) as file:
            return place.read(file, self.path)

    def __iter__(self) -> Iterator[str]:
        return iter(self.places)

    def __len__(self) -> int:
        return len(self.places)

    def items(self) -> ItemsView[str, Tensor]:
        """Names and tensors, one in memory at a time."""
        return _Items(self)


class _Items(ItemsView[str, Tensor]):
    _mapping: Stored

    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        with self._mapping.path.open("rb", buffering=0) as file:
            for name, place in self._mapping.places.items():
                yield name, place.read(file, self._mapping.path)


class Spill:
    """The folder of the updates that wait. It is there while it is needed: what a killed run left goes first."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._count = 0

    def __enter__(self) -> Spill:
        shutil.rmtree(self.folder, ignore_errors=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def put(self, reply: AnyReply) -> AnyReply:
        """The same reply, its tensors on disk; a reply without tensors, or with such, as it is."""
        if not isinstance(reply, Update | SmallUpdate) or isinstance(reply.tensors, Stored):
            return reply
        path = self.folder / f"{self._count}.safetensors"
        self._count += 1
        write_state(path, with_prefix("tensors", reply.tensors) | with_prefix("extras", reply.extras), {})
        return replace(reply, tensors=Stored(path, "tensors"), extras=Stored(path, "extras"))

    def drop(self, reply: Reply) -> None:
        """Remove what `put` wrote of a reply that nobody needs any more; a file of an engine's own is the engine's."""
        stored = reply.tensors if isinstance(reply, Update | SmallUpdate) else None
        if isinstance(stored, Stored) and stored.path.parent == self.folder:
            stored.path.unlink(missing_ok=True)
