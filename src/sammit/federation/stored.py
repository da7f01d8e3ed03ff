"""Tensors of a file that another end wrote, each read when it is asked for.

Nothing in the file is believed: its header is read as far as a bound, and must describe the bytes that are there, all
of them, once each.
"""

from __future__ import annotations

import json
import os
from collections.abc import ItemsView, Iterable, Iterator, Mapping, Sequence
from io import FileIO
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sammit.errors import UserError
from sammit.methods.state import is_finite

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

LARGE = 1 << 26
"""Bytes of a file from which on memory counts more than time."""

READ_AHEAD = 1 << 17
"""Bytes that the system is asked to fetch at a time: of one request Linux takes up no more than it reads ahead."""


class _Place(NamedTuple):
    """Where a tensor is in a file, and as what."""

    name: str
    start: int
    end: int
    dtype: torch.dtype
    shape: tuple[int, ...]


LONGEST_HEADER = 1 << 26
"""Bytes of a header: of a hundred thousand tensors and more."""


def header_of(path: Path) -> tuple[dict[str, Any], int]:
    """A safetensors file's header and its length; raises ValueError where there is none."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > LONGEST_HEADER:
            raise ValueError(f"a header of {length} bytes")
        header = json.loads(file.read(length))
    if not isinstance(header, dict):
        raise ValueError("no header")
    return header, length


def _places(path: Path) -> list[_Place]:
    """What a safetensors file holds, in its order; the system is told to fetch all of it meanwhile.

    Raises:
        ValueError: the header does not describe the file: tensors that overlap, lie beyond its end or leave a gap,
            unknown types, sides below zero.
    """
    header, length = header_of(path)
    size = path.stat().st_size
    if hasattr(os, "posix_fadvise"):
        with path.open("rb") as file:
            for start in range(0, size, READ_AHEAD):
                os.posix_fadvise(file.fileno(), start, READ_AHEAD, os.POSIX_FADV_WILLNEED)
    header.pop("__metadata__", None)
    entries = (_place(name, entry, 8 + length) for name, entry in header.items())
    places = sorted(entries, key=lambda place: (place.start, place.end))
    ends = [8 + length, *(place.end for place in places)]
    if [place.start for place in places] != ends[:-1] or ends[-1] != size:
        raise ValueError("tensors that overlap, leave a gap or are cut short")
    return places


def _place(name: str, entry: Any, start: int) -> _Place:
    """One entry of a header; raises ValueError where it contradicts itself."""
    try:
        dtype, shape, (begin, end) = TYPES[entry["dtype"]], tuple(entry["shape"]), entry["data_offsets"]
    except (KeyError, TypeError, ValueError):
        raise ValueError(f"an entry that is none: '{name}'") from None
    if not all(type(number) is int and number >= 0 for number in (*shape, begin, end)):
        raise ValueError(f"sides or places of '{name}' that are no counts")
    if end - begin != prod(shape) * dtype.itemsize:
        raise ValueError(f"'{name}' of another length than its shape's")
    return _Place(name, start + begin, start + end, dtype, shape)


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

    `items` reads them in the order of the file, which is opened once. A file that is `lasting` is there until the
    round's end, so that a rule may come back to it.
    """

    def __init__(self, path: Path, places: Iterable[_Place], lasting: bool = False) -> None:
        self.path, self.lasting = path, lasting
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

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return sum(place.end - place.start for place in self._places.values())

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


def stored(path: Path, lasting: bool = False) -> tuple[Stored, Stored]:
    """Of an update's file what is under "tensors." and under "extras."; raises ValueError for other files."""
    tensors, extras = stored_parts(path, ("tensors", "extras"), lasting)
    return tensors, extras


def stored_parts(path: Path, parts: Sequence[str], lasting: bool = False) -> list[Stored]:
    """What a safetensors file holds under each of `parts`, "PART."; raises ValueError where it holds anything else."""
    places: dict[str, list[_Place]] = {part: [] for part in parts}
    for place in _places(path):
        part, _, name = place.name.partition(".")
        if part not in places:
            raise ValueError(f"a tensor under '{part}'")
        places[part].append(place._replace(name=name))
    return [Stored(path, places[part], lasting) for part in parts]
