"""What an adapter may add inside a block of the encoder."""

from __future__ import annotations

from torch import Tensor, nn


class BlockAdapter(nn.Module):
    """Three places to add something; a hook that returns None adds nothing.

    Attributes:
        active: False takes the adapter out of the path without touching its tensors.
    """

    active: bool = True

    def to_qkv(self, tokens: Tensor) -> Tensor | None:
        """(..., D) normalised tokens -> (..., 3 D), added to the output of the fused qkv layer."""
        return None

    def after_attention(self, tokens: Tensor) -> Tensor | None:
        """(..., D) attention output -> (..., D), added to it before the residual sum."""
        return None

    def beside_mlp(self, tokens: Tensor) -> Tensor | None:
        """(..., D) normalised tokens -> (..., D), added to the MLP's output."""
        return None
