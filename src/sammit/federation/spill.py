"""Updates that wait on disk: those that came before their turn, and all of them where a rule needs all at once."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import ItemsView, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from io import FileIO
from math import prod
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from sammit.errors import UserError
from sammit.methods.state import is_finite, with_prefix
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


BLOCK = 1 << 18
"""Bytes of neighbouring tensors that are read at once, where one alone is not longer."""

READ_AHEAD = 1 << 17
"""Bytes that the system is asked to fetch at a time: of one request Linux takes up no more than it reads ahead."""


class _Place(NamedTuple):
    """Where a tensor is in a file, and as what."""

    name: str
    start: int
    end: int
    dtype: torch.dtype
    shape: tuple[int, ...]


def _places(path: Path) -> list[_Place]:
    """What a safetensors file holds, in its order; the system is told to fetch all of it meanwhile."""
    with path.open("rb") as file:
        if hasattr(os, "posix_fadvise"):
            for start in range(0, path.stat().st_size, READ_AHEAD):
                os.posix_fadvise(file.fileno(), start, READ_AHEAD, os.POSIX_FADV_WILLNEED)
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    header.pop("__metadata__", None)
    places = [
        _Place(name, 8 + length + begin, 8 + length + end, TYPES[entry["dtype"]], tuple(entry["shape"]))
        for name, entry in header.items()
        for begin, end in [entry["data_offsets"]]
    ]
    return sorted(places, key=lambda place: place.start)


def _blocks(places: Iterable[_Place]) -> Iterator[list[_Place]]:
    """Neighbours of one type together, as far as `BLOCK` allows."""
    block: list[_Place] = []
    for place in places:
        if block:
            first, last = block[0], block[-1]
            if place.dtype != first.dtype or place.start != last.end or place.end - first.start > BLOCK:
                yield block
                block = []
        block.append(place)
    if block:
        yield block


def _read(file: FileIO, block: Sequence[_Place], path: Path) -> Tensor:
    """All numbers of a block, in one row."""
    room = torch.empty(block[-1].end - block[0].start, dtype=torch.uint8)
    file.seek(block[0].start)
    if file.readinto(room.numpy().data) != room.numel():
        raise UserError(f"{path}: was cut short while the run used it; --resume repeats the round")
    return room.view(block[0].dtype)


def _apart(numbers: Tensor, block: Sequence[_Place]) -> Iterator[tuple[str, Tensor]]:
    """Names and tensors of a block."""
    for place, own in zip(block, torch.split(numbers, [prod(place.shape) for place in block]), strict=True):
        yield place.name, own.view(place.shape)


class Stored(Mapping[str, Tensor]):
    """Tensors of a safetensors file by name, each read when it is asked for: none stays in memory.

    `items` reads them in the order of the file, which is opened once.
    """

    def __init__(self, path: Path, places: Iterable[_Place]) -> None:
        self.path = path
        self._places = {place.name: place for place in places}
        self._blocks = list(_blocks(self._places.values()))

    def __getitem__(self, name: str) -> Tensor:
        with self.path.open("rb", buffering=0) as file:
            place = self._places[name]
            return _read(file, [place], self.path).view(place.shape)

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def forms(self) -> Iterator[tuple[str, tuple[int, ...], torch.dtype]]:
        """Name, shape and type of each; nothing is read."""
        return ((place.name, place.shape, place.dtype) for place in self._places.values())

    def first_not_finite(self) -> str | None:
        """The name of a tensor that holds NaN or infinity, or None; neighbours are looked at together."""
        bad = (block for block, numbers in self._numbers() if not is_finite(numbers))
        return next((place.name for block in bad for place in block if not is_finite(self[place.name])), None)

    def _numbers(self) -> Iterator[tuple[list[_Place], Tensor]]:
        """Every block and what it holds, one in memory at a time."""
        with self.path.open("rb", buffering=0) as file:
            for block in self._blocks:
                yield block, _read(file, block, self.path)

    def items(self) -> ItemsView[str, Tensor]:
        """Names and tensors, `BLOCK` bytes or one tensor in memory at a time."""
        return _Items(self)


class _Items(ItemsView[str, Tensor]):
    _mapping: Stored

    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        for block, numbers in self._mapping._numbers():
            yield from _apart(numbers, block)


def stored(path: Path) -> tuple[Stored, Stored]:
    """Of an update's file what is under "tensors." and under "extras."."""
    parts: dict[str, list[_Place]] = {"tensors": [], "extras": []}
    for place in _places(path):
        part, _, name = place.name.partition(".")
        parts[part].append(place._replace(name=name))
    return Stored(path, parts["tensors"]), Stored(path, parts["extras"])


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
        tensors, extras = stored(path)
        return replace(reply, tensors=tensors, extras=extras)

    def drop(self, reply: Reply) -> None:
        """Remove what `put` wrote of a reply that nobody needs any more; a file of an engine's own is the engine's."""
        stored = reply.tensors if isinstance(reply, Update | SmallUpdate) else None
        if isinstance(stored, Stored) and stored.path.parent == self.folder:
            stored.path.unlink(missing_ok=True)
