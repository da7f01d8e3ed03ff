"""Low-rank update of q and v in the decoder's attention (as `lora` does it in the encoder's blocks).

    q = W_q x + (alpha / R) B_q A_q x,    v likewise;    A: R x X Kaiming, B: I x R zero

One adapter in each of the attentions of SAM's two-way transformer (seven, of tokens among themselves and across to the
image and back), X the width of what it is given, I that of its heads together. There the adapter's name is "lora", as
in the encoder: to methods and aggregators its factors are pairs like all others.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from sammit.errors import UserError
from sammit.models.adapters.base import AttentionAdapter
from sammit.models.adapters.factors import added, factors, rest


@dataclass(frozen=True)
class Options:
    """`[model.decoder_lora]`."""

    rank: int = 4  # R
    alpha: float = 0.0  # scale is alpha / rank; 0: alpha = rank
    residual: bool = False  # as in [model.lora]


class Adapter(AttentionAdapter):
    """Two factor pairs of one attention."""

    def __init__(self, width: int, inner: int, options: Options) -> None:
        super().__init__()
        if not 1 <= options.rank <= inner:
            raise UserError(f"model.decoder_lora.rank: must be between 1 and {inner}, an attention's width")
        self.scale = (options.alpha or options.rank) / options.rank
        self.q_down, self.q_up = factors(width, inner, options.rank)
        self.v_down, self.v_up = factors(width, inner, options.rank)
        self.q_rest = rest(width, inner, options.residual)
        self.v_rest = rest(width, inner, options.residual)

    def to_q(self, tokens: Tensor) -> Tensor:
        """(..., X) -> (..., I)."""
        return added(tokens, self.q_down, self.q_up, self.q_rest, self.scale)

    def to_v(self, tokens: Tensor) -> Tensor:
        """(..., X) -> (..., I)."""
        return added(tokens, self.v_down, self.v_up, self.v_rest, self.scale)
