"""Channel attention that knows the site: FedICRA's channel selection (Lin et al., 2304.05635) in each block.

    z = U relu(D [mean_tokens a, e]) + U relu(D [max_tokens a, e]),    heat = sigmoid(z),    y = a * 2 heat

a is the attention's output, e the site's code. In the original the code is the site's number, one-hot, through two
layers, which is a row of a table; here the row itself is a parameter, which a method may keep at its site, so that the
model needs not know how many sites there are. The original adds the scaled channels to the channels, a + a * heat. Here
the factor is twice the heat and U is zero at first, so that the adapted model equals the base model at the start.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sammit.errors import UserError
from sammit.models.adapters.base import BlockAdapter, BlockOptions


@dataclass(frozen=True)
class Options(BlockOptions):
    """`[model.condition]`."""

    code: int = 16  # numbers in a site's code, E
    reduction: int = 16  # the block's width over the hidden width


class Adapter(BlockAdapter):
    """The channel attention of one block.

    Attributes:
        code: (E,) the site's; zero is no site's.
        pooled: (B, 2, D) mean and largest of each channel at the last forward pass; None before the first.
    """

    def __init__(self, width: int, options: Options) -> None:
        super().__init__()
        if options.code < 1 or not 1 <= options.reduction <= width:
            raise UserError(f"model.condition: code must be at least 1, reduction between 1 and {width}, the width")
        self.code = nn.Parameter(torch.zeros(options.code))
        self.down = nn.Linear(width + options.code, width // options.reduction, bias=False)
        self.up = nn.Linear(width // options.reduction, width, bias=False)
        nn.init.zeros_(self.up.weight)
        self.pooled: Tensor | None = None

    def __getstate__(self) -> dict[str, object]:
        """Without the last pass's graph, which a copy of the model cannot take along."""
        return {**self.__dict__, "pooled": None}

    def heat(self, pooled: Tensor, code: Tensor) -> Tensor:
        """(B, 2, D) and (E,) -> (B, D) in (0, 1): how much each channel counts at the site of that code."""
        joined = torch.cat([pooled, code.expand(*pooled.shape[:-1], -1)], dim=-1)
        return self.up(self.down(joined).relu()).sum(-2).sigmoid()  # type: ignore[no-any-return]

    def after_attention(self, tokens: Tensor) -> Tensor:
        """(B, ..., D) -> the same: what makes of a twice its heat."""
        flat = tokens.flatten(1, -2)
        self.pooled = torch.stack([flat.mean(1), flat.amax(1)], dim=1)
        change = 2 * self.heat(self.pooled, self.code) - 1
        return tokens * change.reshape(len(tokens), *[1] * (tokens.dim() - 2), -1)
