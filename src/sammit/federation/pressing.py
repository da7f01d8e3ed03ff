"""Named tensors as one tensor of bytes, through a lossless pass where that makes them fewer."""

from __future__ import annotations

import zlib

import torch

from sammit.errors import UserError
from sammit.runs import apart
from sammit.vocabulary import AnyState, State


def pressed(parts: State) -> State:
    """{"deflated": bytes}, or {"plain": bytes} where deflating gains nothing; what they hold is a safetensors file."""
    from safetensors.torch import save

    plain = save(apart(parts))
    deflated = zlib.compress(plain)
    name, data = ("deflated", deflated) if len(deflated) < len(plain) else ("plain", plain)
    return {name: torch.frombuffer(bytearray(data), dtype=torch.uint8)}


def opened(tensors: State, like: AnyState) -> State:
    """What `pressed` was given.

    Args:
        tensors: from elsewhere, not yet looked at.
        like: tensors in full, of which the parts may be no larger than 4 bytes a number and room for their names: no
            more than that is ever in memory, whatever the bytes are made to swell to.

    Raises:
        UserError: they are something else.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    if len(tensors) != 1 or tensors.keys() - {"deflated", "plain"}:
        raise UserError("sent an update that cannot be read")
    ((name, data),) = tensors.items()
    most = 1000 + sum(4 * tensor.numel() + 3 * (len(key.encode()) + 200) for key, tensor in like.items())
    try:
        plain = data.numpy().tobytes()
        if name == "deflated":
            stream = zlib.decompressobj()
            plain = stream.decompress(plain, most + 1)
            if len(plain) <= most and not stream.eof:
                raise UserError("sent an update that is cut short")
        if len(plain) > most:
            raise UserError(f"sent an update of more than {most:,} bytes, which none can have")
        return load(plain)
    except (zlib.error, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"sent an update that cannot be read ({error})") from None
