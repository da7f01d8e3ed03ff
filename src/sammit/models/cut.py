"""Where the encoder may be cut: what comes before never changes in a run."""

from __future__ import annotations

from collections.abc import Collection
from hashlib import sha256
from typing import TYPE_CHECKING

import torch

from sammit.errors import UserError
from sammit.models.blocks import ENTRANCE
from sammit.vocabulary import is_adapter

if TYPE_CHECKING:
    from sammit.models.sam import PromptFreeSam

_BLOCKS = "vision_encoder.layers."
_FIRST = (*ENTRANCE, f"{_BLOCKS}0.")


def cut_before(model: PromptFreeSam, changing: Collection[str]) -> int:
    """How many of the encoder's first blocks stay as they are: at least one.

    A block with an adapter does not count, even where the adapter is frozen, as methods switch adapters on and off.

    Args:
        model: with its adapters.
        changing: names of the tensors that may change.

    Raises:
        UserError: there is no such block; what is in the way is named.
    """
    moving = [name for name, _ in model.named_parameters() if name in changing or is_adapter(name)]
    for name in moving:
        if name.startswith(_FIRST):
            adapter = name.split(".adapters.")[1].partition(".")[0] if is_adapter(name) else ""
            mend = f"model.{adapter}.blocks = 'last:2'" if adapter else "model.train = 'last:2'"
            raise UserError(
                f"training.prefix_cache: '{name}' is in the way, as it may change and comes first; "
                f"set {mend}, or training.prefix_cache = 0"
            )
    blocks = [int(name.removeprefix(_BLOCKS).partition(".")[0]) for name in moving if name.startswith(_BLOCKS)]
    return min(blocks, default=len(model.vision_encoder.blocks))


def prefix_hash(model: PromptFreeSam) -> str:
    """SHA-256, hexadecimal, of all that `model.prefix` computes with."""
    encoder = model.vision_encoder
    digest = sha256()
    for block in encoder.blocks[: encoder.cut]:
        digest.update(f"{block.window} {block.heads} {block.tables is not None}\n".encode())
    tensors = {name: model.get_buffer(name) for name in ("pixel_mean", "pixel_std")}
    tensors |= {
        name: tensor for name, tensor in encoder.state_dict().items() if not name.startswith(("layers.", "neck."))
    }
    for index, block in enumerate(encoder.blocks[: encoder.cut]):
        tensors |= {f"{index}.{name}": tensor for name, tensor in block.state_dict().items()}
    for name, tensor in tensors.items():
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
