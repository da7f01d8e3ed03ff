"""Orders and replies as bytes: what is counted as traffic is what is really serialised.

A message is one safetensors blob: tensors under "tensors." and "extras.", everything else as JSON in its header.
"""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

from sammit.methods.state import with_prefix, without_prefix
from sammit.runs import apart
from sammit.vocabulary import (
    Done,
    Failure,
    Invitation,
    Judgement,
    Message,
    Order,
    Ready,
    Reply,
    SmallUpdate,
    State,
    Survey,
    Update,
)

KINDS: dict[str, type] = {
    kind.__name__: kind for kind in (Order, Update, SmallUpdate, Judgement, Invitation, Survey, Ready, Done, Failure)
}
PARTS = ("tensors", "extras")
"""The fields of a message that hold tensors."""


def encode(message: Message | Reply) -> bytes:
    """A message as bytes; `decode` gives an equal one back."""
    from safetensors.torch import save

    return save(*content(message))


def content(message: Message | Reply) -> tuple[State, dict[str, str]]:
    """A message as what safetensors writes: tensors, and the text in the header."""
    state: State = {}
    plain: dict[str, Any] = {}
    for name, value in vars(message).items():
        if name in PARTS:
            state |= with_prefix(name, value)
        else:
            plain[name] = dict(value) if isinstance(value, dict) else value
    return apart(state), {"message": json.dumps({"is": type(message).__name__, **plain})}


def decode(data: bytes) -> Any:
    """The message in some bytes; raises KeyError or ValueError for bytes that hold none."""
    from safetensors.torch import load

    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    plain = json.loads(header["__metadata__"]["message"])
    kind = KINDS[plain.pop("is")]
    parts = [field.name for field in fields(kind) if field.name in PARTS]
    if parts:
        state = load(data)
        plain |= {name: without_prefix(name, state) for name in parts}
    return kind(**plain)


def describe(reply: Reply) -> dict[str, Any]:
    """What a reply holds, for a person to read: each tensor's shape, type and bytes, every number, and all bytes."""
    tensors = {name: tensor for part in PARTS for name, tensor in getattr(reply, part, {}).items()}
    rows = {
        name: {"shape": list(t.shape), "dtype": str(t.dtype).removeprefix("torch."), "bytes": t.nbytes}
        for name, t in tensors.items()
    }
    numbers = {key: value for key, value in vars(reply).items() if key not in PARTS}
    return {"tensors": rows, "numbers": numbers, "bytes": len(encode(reply))}
