"""Updates that no server should take, and what it must say of each."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from sammit.federation.messages import content
from sammit.federation.posted import post, read
from sammit.vocabulary import Update

Poison = Callable[[Update, Path], None]
"""Writes something in place of a sound update."""


def _with(change: Callable[[Update, str], dict[str, Any]]) -> Poison:
    """The update with some fields changed; `change` is given the name of its first tensor."""

    def written(update: Update, path: Path) -> None:
        post(replace(update, **change(update, next(iter(update.tensors)))), path)

    return written


def _tensor(make: Callable[[torch.Tensor], torch.Tensor]) -> Poison:
    return _with(lambda update, name: {"tensors": {**update.tensors, name: make(update.tensors[name])}})


def _text(update: Update, path: Path) -> None:
    path.write_bytes(b"this is no message" * 100)


def _overlong_header(update: Update, path: Path) -> None:
    path.write_bytes((1 << 40).to_bytes(8, "little") + b"{}")


def _overlapping(update: Update, path: Path) -> None:
    """Two tensors in the same bytes."""
    _reheaded(update, path, lambda first, second: second.update(data_offsets=first["data_offsets"]))


def _beyond(update: Update, path: Path) -> None:
    """A tensor that ends beyond the file."""
    _reheaded(update, path, lambda first, second: second["data_offsets"].__setitem__(1, 1 << 50))


def _reheaded(update: Update, path: Path, change: Callable[[dict[str, Any], dict[str, Any]], Any]) -> None:
    post(update, path)
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    names = [name for name in header if name != "__metadata__"]
    change(header[names[0]], header[names[-1]])
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])


def _words_for_numbers(update: Update, path: Path) -> None:
    from safetensors.torch import save_file

    state, header = content(update)
    plain = json.loads(header["message"])
    save_file(state, path, {"message": json.dumps({**plain, "samples": "many"})})


KINDS: dict[str, tuple[Poison, str]] = {
    "NaN": (_tensor(lambda tensor: tensor * torch.nan), r"sent NaN or infinity in '"),
    "infinity": (_tensor(lambda tensor: tensor + torch.inf), r"sent NaN or infinity in '"),
    "wrong shape": (_tensor(lambda tensor: torch.cat([tensor.flatten(), torch.zeros(1)])), r"sent '.*' as .*, not "),
    "wrong type": (_tensor(lambda tensor: tensor.double()), r"sent '.*' as torch.float64 .*, not torch.float32"),
    "missing name": (
        _with(lambda update, name: {"tensors": {k: v for k, v in update.tensors.items() if k != name}}),
        r"did not send the shared tensor '",
    ),
    "extra name": (
        _with(lambda update, name: {"tensors": {**update.tensors, "a.backdoor": torch.zeros(3)}}),
        r"sent the undeclared tensor 'a.backdoor'",
    ),
    "extra thing beside": (
        _with(lambda update, name: {"extras": {"pixels": torch.zeros(3)}}),
        r"holds the undeclared tensor 'pixels'",
    ),
    "undeclared number": (
        _with(lambda update, name: {"metrics": {**update.metrics, "age": 63.0}}),
        r"sent the undeclared number 'age'",
    ),
    "inflated count": (
        _with(lambda update, name: {"samples": update.samples * 1000}),
        r"claims \d+ samples, having announced \d+",
    ),
    "replayed round": (_with(lambda update, name: {"round": update.round - 1}), r"sent an update for round "),
    "another site's name": (_with(lambda update, name: {"site": "aster"}), r"answered in another site's name"),
    "no message": (_text, r"sent what is no message"),
    "endless header": (_overlong_header, r"sent what is no message \(a header of \d+ bytes\)"),
    "overlapping tensors": (_overlapping, r"sent what is no message"),
    "a tensor beyond the end": (_beyond, r"sent what is no message"),
    "words for numbers": (_words_for_numbers, r"sent what is no message \(.*'samples' is of another type\)"),
}
"""By name: what a site sends for a sound update, and the reason that the server must log."""


def poisoned(answer: Callable[[Any, Path, Path], None]) -> Callable[[Any, Path, Path], None]:
    """A hospital's `answer` that poisons its update in round k with the k-th of KINDS, and is honest after the last."""

    def under_control(self: Any, order: Path, reply: Path) -> None:
        answer(self, order, reply)
        said = read(reply)
        if isinstance(said, Update) and said.round < len(KINDS):
            kept = replace(said, tensors=dict(said.tensors.items()), extras=dict(said.extras.items()))
            list(KINDS.values())[said.round][0](kept, reply)

    return under_control
