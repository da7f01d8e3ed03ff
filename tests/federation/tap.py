"""A tap on the line between sites and server: every message of a run as bytes, and what the sites kept to themselves.

Three searches tell what should not be in a message, one line for each find: `undeclared` (its form), `named` (words in
its bytes) and `carried` (contents of private tensors in its bytes).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tiny
from sammit.config import Experiment
from sammit.federation import in_process, local, memory
from sammit.federation.guard import declaration_of
from sammit.federation.prepare import Prepared
from sammit.federation.pressing import opened
from sammit.vocabulary import Declared, Failure, Judgement, Order, Reply, SmallUpdate, State, Update

WINDOW = 64  # bytes of a private tensor that are looked for: 16 numbers of four bytes


@dataclass(frozen=True)
class Message:
    """One message as it went over the line.

    Attributes:
        said: what was encoded.
        data: its bytes: eight for the header's length, the header in JSON, the tensors; of a small update as they are
            before its lossless pass, under which nothing could be found.
        sent: how many bytes went over the line.
    """

    said: Order | Reply
    data: bytes
    sent: int

    @property
    def down(self) -> bool:
        return isinstance(self.said, Order)

    @property
    def where(self) -> str:
        kind = self.said.kind if isinstance(self.said, Order) else type(self.said).__name__
        return f"{kind} {'to' if self.down else 'from'} {self.said.site}, round {self.said.round}"

    @cached_property
    def split(self) -> int:
        """Where the tensors begin."""
        return 8 + int.from_bytes(self.data[:8], "little")

    @cached_property
    def header(self) -> dict[str, Any]:
        return dict(json.loads(self.data[8 : self.split]))

    @property
    def entries(self) -> dict[str, Any]:
        return {name: entry for name, entry in self.header.items() if name != "__metadata__"}

    def entry_at(self, place: int) -> str:
        """The name of the tensor whose bytes are at a place; empty in the header."""
        for name, entry in self.entries.items():
            start, end = entry["data_offsets"]
            if self.split + start <= place < self.split + end:
                return name
        return ""


@dataclass
class Tap:
    """A whole run, listened to.

    Attributes:
        messages: in the order of their sending.
        states: (site, private state, messages sent by then) each time that a site wrote one.
        prepared: the run as it was prepared.
    """

    messages: list[Message] = field(default_factory=list)
    states: list[tuple[str, State, int]] = field(default_factory=list)
    prepared: Prepared | None = None

    def run(self, what: Experiment, out: Path) -> Tap:
        """Carry out a run through the real engine, messages and all."""
        encode, write, workers = in_process.encode, memory.write_state, local.make_workers

        def encoded(message: Any) -> bytes:
            data = encode(message)
            self.messages.append(Message(message, encode(self._unpressed(message)), len(data)))
            return data

        def written(path: Path, state: State, facts: Mapping[str, Any]) -> None:
            kept = {name: tensor.clone() for name, tensor in state.items()}
            self.states.append((path.parent.name, kept, len(self.messages)))
            write(path, state, facts)

        def made(folder: Any, prepared: Prepared) -> Any:
            self.prepared = prepared
            return workers(folder, prepared)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(in_process, "encode", encoded)
            patch.setattr(memory, "write_state", written)
            patch.setattr(local, "make_workers", made)
            tiny.run(what, out)
        return self

    def _unpressed(self, message: Any) -> Any:
        """A small update with its parts as tensors of their own; any other message as it is."""
        if not isinstance(message, SmallUpdate):
            return message
        return replace(message, tensors=opened(message.tensors, self.known.template))

    @property
    def known(self) -> Prepared:
        assert self.prepared is not None
        return self.prepared

    def replies(self) -> list[Message]:
        return [message for message in self.messages if not message.down]

    def orders(self) -> list[Message]:
        return [message for message in self.messages if message.down]


# The form of a message


def undeclared(tap: Tap) -> list[str]:
    """What a message holds beyond what is shared and what the method declares."""
    return [f"{message.where}: {odd}" for message in tap.messages for odd in _odd(tap.known, message)]


def _odd(prepared: Prepared, message: Message) -> Iterator[str]:
    said, entries, method = message.said, message.entries, prepared.method
    meta = json.loads(message.header["__metadata__"]["message"])
    plain = {f.name for f in fields(said)} - {"tensors", "extras"} | {"is"}
    yield from (f"the field '{name}'" for name in meta.keys() ^ plain)
    if isinstance(said, Failure):
        yield f"a failure, {said.reason}"
    shared = {f"tensors.{name}" for name in method.aggregator.cut(_shared(prepared), said.site)}
    held = {f"tensors.{name}" for name in prepared.backbone.start if method.aggregator.holds(name)}
    names = {name for name in entries if not name.startswith("extras.")}
    if isinstance(said, SmallUpdate):
        names = {re.sub(r"^tensors\.(numbers|scales|places)\.", "tensors.", name) for name in names}
    if isinstance(said, Update | SmallUpdate):
        yield from (f"'{name}', sent or not sent against the rule" for name in names ^ shared)
        yield from (f"the number '{name}'" for name in meta["metrics"].keys() - method.reports.keys())
        yield from (f"no number, {value}" for value in meta["metrics"].values() if type(value) not in (int, float))
    elif isinstance(said, Judgement):
        judged = {*method.judging.models, *method.judging.unseen}
        yield from (f"scores of '{name}'" for name in meta["dice"].keys() - judged)
        yield from (f"no score, {value}" for value in meta["dice"].values() if type(value) is not float)
    yield from (f"'{name}'" for name in names - (shared | held if message.down else shared))
    declared = (
        method.extras_down if message.down else method.extras_up if isinstance(said, Update | SmallUpdate) else ()
    )
    extras = {name.removeprefix("extras.") for name in entries if name.startswith("extras.")}
    yield from (f"the extra '{name}'" for name in extras if declaration_of(name, declared) is None)
    ends = [entry["data_offsets"][1] for entry in entries.values()]
    if message.split + max(ends, default=0) != len(message.data):
        yield "bytes that no name stands for"


def _shared(prepared: Prepared) -> State:
    return {name: prepared.backbone.start[name] for name in prepared.shared}


# Words in its bytes


def named(tap: Tap, words: Iterable[str]) -> list[str]:
    """Names of personal tensors and of private state, and other words, that occur in the bytes of a message.

    A name that private state shares with a declared extra may occur where that extra does.
    """
    method = tap.known.method
    keys = {key for _, state, _ in tap.states for key in state}
    always = {*words, *tap.known.personal}
    finds = []
    for messages, declared in ((tap.replies(), method.extras_up), (tap.orders(), method.extras_down)):
        wanted = always | {key for key in keys if declaration_of(key, declared) is None}
        for part, message in _parts(messages):
            finds += [f"{message.where}: '{word}'" for word in wanted if _has(part, word.encode())]
    return finds


def _has(part: bytes, word: bytes) -> bool:
    """Whether a word occurs; one of four letters occurs in numbers by chance, and in a header inside other words."""
    if len(word) > 4:
        return word in part
    return part[:1] == b"{" and re.search(rb"(?<!\w)" + re.escape(word) + rb"(?![\w.])", part) is not None


# Contents of private tensors in its bytes


def carried(tap: Tap) -> list[str]:
    """Private tensors of which a message carries 64 bytes in a row, anywhere, aligned or not.

    What the server had sent before the site kept it is not the site's. What a declaration says is "sent" may be found:
    that of an extra, in this extra; that of a site's state, in the site's updates under the same name, and in orders.
    """
    windows = private_windows(tap)
    found: dict[bytes, list[tuple[Message, str]]] = {}
    for part, message in _parts(tap.messages):
        skipped = 8 if part[:1] == b"{" else message.split
        for window, place in occurrences(windows, part):
            found.setdefault(window, []).append((message, message.entry_at(skipped + place)))
    sent = {id(message): index for index, message in enumerate(tap.messages)}
    finds = []
    for window, places in found.items():
        site, key, since = windows[window]
        if not any(message.down and sent[id(message)] < since for message, _ in places):
            finds += [f"{m.where}: '{key}' of {site}" for m, e in places if not _says_sent(tap, m, e, site, key)]
    return finds


def private_windows(tap: Tap) -> dict[bytes, tuple[str, str, int]]:
    """Bytes of private tensors that tell them from all others -> site, name, messages sent when it was first kept.

    From every tensor of 16 numbers or more, 64 bytes around the first, the middle and the last number that training has
    moved; none of few values (zeros, ones), which tell nothing.
    """
    start = tap.known.backbone.start
    windows: dict[bytes, tuple[str, str, int]] = {}
    for site, state, since in tap.states:
        for key, tensor in state.items():
            for window in _windows(tensor, start.get(_bare(key))) if tensor.numel() >= 16 else ():
                if len(set(np.frombuffer(window, "<u4"))) >= 8:
                    windows.setdefault(window, (site, key, since))
    return windows


def _windows(tensor: torch.Tensor, start: torch.Tensor | None) -> Iterator[bytes]:
    flat = tensor.contiguous().reshape(-1)
    raw, size = flat.view(torch.uint8).numpy().tobytes(), flat.element_size()
    moved = torch.ones_like(flat, dtype=torch.bool)
    if start is not None and start.shape == tensor.shape:  # by more than rounding: two models may round alike
        moved = (flat - start.reshape(-1)).abs() > 1e-4 * start.reshape(-1).abs()
    places = moved.nonzero()[:, 0]
    for index in places[[0, len(places) // 2, -1]].tolist() if len(places) else ():
        place = min(max(0, index * size - WINDOW // 2), len(raw) - WINDOW)
        yield raw[place : place + WINDOW]


def occurrences(needles: Iterable[bytes], data: bytes) -> Iterator[tuple[bytes, int]]:
    """Where any of some byte strings, of WINDOW bytes each, occur in `data`, at whatever offset."""
    needles = set(needles)
    firsts = np.array([int.from_bytes(needle[:4], "little") for needle in needles], np.uint32)
    low, high = np.zeros(1 << 16, bool), np.zeros(1 << 16, bool)
    low[firsts & 0xFFFF], high[firsts >> 16] = True, True
    for shift in range(min(4, len(data))):
        numbers = np.frombuffer(data, "<u4", (len(data) - shift) // 4, shift)
        for place in np.flatnonzero(low[numbers & 0xFFFF] & high[numbers >> 16]):
            at = 4 * int(place) + shift
            if data[at : at + WINDOW] in needles:
                yield data[at : at + WINDOW], at


def _says_sent(tap: Tap, message: Message, entry: str, site: str, key: str) -> bool:
    """Whether a declaration explains that a private tensor's bytes are in an entry of a message."""
    method, (kind, _, name) = tap.known.method, entry.partition(".")
    if kind == "extras" and _sent(name, method.extras_down if message.down else method.extras_up):
        return True
    own = message.said.site == site and name in (key, _bare(key))
    return _sent(key, method.site_state) and (message.down or own)


def _sent(name: str, declared: tuple[Declared, ...]) -> bool:
    fits = declaration_of(name, declared)
    return fits is not None and "sent" in re.findall(r"\w+", fits.purpose)


def _bare(key: str) -> str:
    """The tensor's own name in a key of private state: "optimiser.NAME|KEY" and "personal.NAME" are NAME's."""
    return key.partition(".")[2].partition("|")[0]


def _parts(messages: Iterable[Message]) -> list[tuple[bytes, Message]]:
    """Headers and tensors of messages, each once however often it was sent."""
    parts: dict[bytes, Message] = {}
    for message in messages:
        for part in (message.data[8 : message.split], message.data[message.split :]):
            parts.setdefault(part, message)
    return list(parts.items())
