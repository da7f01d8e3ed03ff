"""Low-rank update of q and v (Hu et al., 2106.09685; on SAM: SAMed, 2304.13785).

    q = W_q u + (alpha / R) B_q A_q u,    v likewise;    A: R x D Kaiming, B: D x R zero

q and v are separate factor pairs, although transformers fuses the base layer. B is zero, so that the adapted model
equals the base model at the start.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sammit.errors import UserError
from sammit.models.adapters.base import BlockAdapter, BlockOptions
from sammit.models.adapters.factors import added, factors, rest


@dataclass(frozen=True)
class Options(BlockOptions):
    """`[model.lora]`."""

    rank: int = 4  # R
    alpha: float = 0.0  # scale is alpha / rank; 0: alpha = rank
    residual: bool = False  # a frozen matrix beside each pair, which the aggregator fedex_lora asks for and fills


class Adapter(BlockAdapter):
    """Two factor pairs of one block."""

    def __init__(self, width: int, options: Options) -> None:
        super().__init__()
        if not 1 <= options.rank <= width:
            raise UserError(f"model.lora.rank: must be between 1 and {width}, the model's width")
        self.scale = (options.alpha or options.rank) / options.rank
        self.q_down, self.q_up = factors(width, width, options.rank)
        self.v_down, self.v_up = factors(width, width, options.rank)
        self.q_rest = rest(width, width, options.residual)
        self.v_rest = rest(width, width, options.residual)

    def to_qkv(self, tokens: Tensor) -> Tensor:
        """(..., D) -> (..., 3 D); the middle third, k, is zero."""
        q = added(tokens, self.q_down, self.q_up, self.q_rest, self.scale)
        v = added(tokens, self.v_down, self.v_up, self.v_rest, self.scale)
        return torch.cat([q, torch.zeros_like(q), v], dim=-1)
