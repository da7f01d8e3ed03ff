"""Medical SAM Adapter's bottlenecks (Wu et al., 2304.12620), as FedMSA uses them (FedFMS, 2403.05408).

    y = a + A_1(a)  after attention,     x = y + MLP(u) + s A_2(u)  beside the MLP,     A(z) = U act(D z)

Two live adapters a block; the original code builds a third, for volumes, which it sends but never runs, and which is
left out here. The up-projection starts at zero, so that the adapted model equals the base model at the start;
`init = "fedfms"` is the original's plain initialisation, with which it does not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from sammit.errors import UserError
from sammit.models.adapters.base import BlockAdapter, BlockOptions
from sammit.models.products import Linear


@dataclass(frozen=True)
class Options(BlockOptions):
    """`[model.bottleneck]`."""

    ratio: float = 0.25  # hidden width over the block's width
    scale: float = 0.5  # s of the adapter beside the MLP
    activation: Literal["gelu", "relu"] = "gelu"  # FedFMS's code has GELU, its paper ReLU
    init: Literal["zero", "fedfms"] = "zero"  # the second layer: zero, or random as in FedFMS's code


class Adapter(BlockAdapter):
    """The two bottlenecks of one block."""

    def __init__(self, width: int, options: Options) -> None:
        super().__init__()
        if not 0 < options.ratio <= 4:
            raise UserError("model.bottleneck.ratio: must be above 0 and at most 4")
        self.scale = options.scale
        self.attention = _bottleneck(width, options)
        self.mlp = _bottleneck(width, options)

    def after_attention(self, tokens: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        return self.attention(tokens)  # type: ignore[no-any-return]

    def beside_mlp(self, tokens: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        return self.mlp(tokens) * self.scale  # type: ignore[no-any-return]


def _bottleneck(width: int, options: Options) -> nn.Sequential:
    hidden = max(1, int(options.ratio * width))
    activation = nn.GELU() if options.activation == "gelu" else nn.ReLU()
    layers = nn.Sequential(Linear(width, hidden), activation, Linear(hidden, width))
    if options.init == "zero":
        nn.init.zeros_(layers[2].weight)  # type: ignore[arg-type]
        nn.init.zeros_(layers[2].bias)  # type: ignore[arg-type]
    return layers
