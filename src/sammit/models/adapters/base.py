"""What an adapter may add inside a block of the encoder, or inside an attention of the decoder."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class BlockOptions:
    """What every adapter of the encoder's blocks may be told."""

    blocks: str = "all"  # all, last_half, every_other (the second, the fourth, ...), global (no windows) or last:K


class Adapter(nn.Module):
    """Something trained beside frozen layers.

    Attributes:
        active: False takes the adapter out of the path without touching its tensors.
        weight: of what it adds; a method that mixes adapters sets it.
    """

    active: bool = True
    weight: float = 1.0


class BlockAdapter(Adapter):
    """Four places in a block of the encoder to add something; a hook that returns None adds nothing.

    The options of such an adapter are a `BlockOptions`.
    """

    def to_qkv(self, tokens: Tensor) -> Tensor | None:
        """(..., D) normalised tokens -> (..., 3 D), added to the output of the fused qkv layer."""
        return None

    def after_attention(self, tokens: Tensor) -> Tensor | None:
        """(..., D) attention output -> (..., D), added to it before the residual sum."""
        return None

    def beside_attention(self, tokens: Tensor) -> Tensor | None:
        """(..., D) tokens that attention is given, normalised -> (..., D), added to the attention's output."""
        return None

    def beside_mlp(self, tokens: Tensor) -> Tensor | None:
        """(..., D) tokens that the MLP is given, normalised -> (..., D), added to the MLP's output."""
        return None


class AttentionAdapter(Adapter):
    """Two places in an attention of the decoder to add something; X its width, I that of its heads together."""

    def to_q(self, tokens: Tensor) -> Tensor | None:
        """(..., X) what queries are made of -> (..., I), added to the queries."""
        return None

    def to_v(self, tokens: Tensor) -> Tensor | None:
        """(..., X) what values are made of -> (..., I), added to the values."""
        return None


def with_adapters(adapters: nn.ModuleDict, hook: str, given: Tensor, base: Tensor) -> Tensor:
    """`base` plus what the hook of each active adapter makes of `given`, times the adapter's weight."""
    for adapter in adapters.values():
        if isinstance(adapter, Adapter) and adapter.active:
            extra = getattr(adapter, hook)(given)
            base = base if extra is None else torch.add(base, extra, alpha=adapter.weight)
    return base
