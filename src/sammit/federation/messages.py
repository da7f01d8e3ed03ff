"""Orders and replies as bytes: what is counted as traffic is what is really serialised.

A message is one safetensors blob: tensors under "tensors." and "extras.", everything else as JSON in its header.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from sammit.methods.state import with_prefix, without_prefix
from sammit.runs import apart
from sammit.vocabulary import Done, Failure, Judgement, Order, Reply, SmallUpdate, State, Update

KINDS: dict[str, type] = {kind.__name__: kind for kind in (Order, Update, SmallUpdate, Judgement, Done, Failure)}


def encode(message: Order | Reply) -> bytes:
    """A message as bytes; `decode` gives an equal one back."""
    from safetensors.torch import save

    state: State = {}
    plain: dict[str, Any] = {}
    for name, value in vars(message).items():
        if name in ("tensors", "extras"):
            state |= with_prefix(name, value)
        else:
            plain[name] = dict(value) if isinstance(value, dict) else value
    return save(apart(state), {"message": json.dumps({"is": type(message).__name__, **plain})})


def decode(data: bytes) -> Any:
    """The message in some bytes; raises KeyError or ValueError for bytes that hold none."""
    from safetensors.torch import load

    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    plain = json.loads(header["__metadata__"]["message"])
    kind = KINDS[plain.pop("is")]
    if kind in (Order, Update, SmallUpdate):
        state = load(data)
        plain |= {name: without_prefix(name, state) for name in ("tensors", "extras")}
    return kind(**plain)


def describe(message: Update | SmallUpdate) -> dict[str, Any]:
    """What an update holds, for a person to read: each tensor's shape, type and bytes, and every number."""
    rows = {
        name: {"shape": list(t.shape), "dtype": str(t.dtype).removeprefix("torch."), "bytes": t.nbytes}
        for name, t in {**message.tensors, **message.extras}.items()
    }
    numbers = {key: value for key, value in asdict(message).items() if key not in ("tensors", "extras")}
    return {"tensors": rows, "numbers": numbers, "bytes": len(encode(message))}
