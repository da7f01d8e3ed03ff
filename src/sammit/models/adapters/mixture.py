"""Localised mixture of experts in the encoder's blocks: the part of pFedSAM that never leaves a site.

pFedSAM (2509.15638) says that its mixture is local; where it sits and what an expert is are this reconstruction's
choice, after MixLoRA (2404.15159):

    x = y + MLP(u) + s sum_e g_e(u) U_e GELU(D_e u),     g(u) = softmax((W_g u + b_g) / tau)  for each token

With `expert = "low_rank"` an expert is U_e D_e u, without GELU; with `beside = "attention"` the sum stands beside the
attention instead, y = x + attention(u) + s sum_e ..., u then the attention's own normalised input.

U_e starts at zero, so that the mixture changes nothing at first; the D_e differ, which breaks the symmetry. With
`top_k` only the k largest gates are kept and renormalised, and the balance loss of Switch (2101.03961),
E sum_e f_e P_e, is offered in `balance`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from sammit.errors import UserError
from sammit.models.adapters.base import BlockAdapter, BlockOptions


@dataclass(frozen=True)
class Options(BlockOptions):
    """`[model.mixture]`."""

    experts: int = 4  # E
    width: int = 8  # hidden width of an expert, the rank of a low-rank one
    expert: Literal["bottleneck", "low_rank"] = "bottleneck"  # with GELU between its two matrices, or their product
    beside: Literal["mlp", "attention"] = "mlp"  # which of a block's two parts the experts stand beside
    scale: float = 1.0  # s
    temperature: float = 1.0  # tau
    top_k: int = 0  # 0: dense


class Adapter(BlockAdapter):
    """The experts and the router of one block.

    Attributes:
        balance: Switch's loss of the last forward pass, a scalar; None when routing is dense.
        load: (E,) sum of the mean gates over the forward passes since `reset_load`; `passes` counts them.
    """

    def __init__(self, width: int, options: Options) -> None:
        super().__init__()
        if not 1 <= options.experts <= 256 or not 0 <= options.top_k <= options.experts:
            raise UserError("model.mixture: experts must be 1 to 256 and top_k 0 (dense) to experts")
        if options.width < 1 or options.temperature <= 0:
            raise UserError("model.mixture: width must be at least 1 and temperature above 0")
        self.options = options
        self.gate = nn.Linear(width, options.experts)
        self.down = nn.Parameter(torch.empty(options.experts, options.width, width))
        self.up = nn.Parameter(torch.zeros(options.experts, width, options.width))
        nn.init.normal_(self.gate.weight, std=0.02)
        nn.init.zeros_(self.gate.bias)
        nn.init.normal_(self.down, std=width**-0.5)
        self.balance: Tensor | None = None
        self.reset_load()

    def __getstate__(self) -> dict[str, object]:
        """Without the last pass's graph, which a copy of the model cannot take along."""
        return {**self.__dict__, "balance": None}

    def reset_load(self) -> None:
        """Forget the router's use so far."""
        self.load = torch.zeros(self.options.experts)
        self.passes = 0

    def gates(self, tokens: Tensor) -> Tensor:
        """(..., D) -> (..., E), each row sums to 1; computed in fp32 whatever the precision."""
        with torch.autocast(tokens.device.type, enabled=False):
            scores = nn.functional.linear(tokens.float(), self.gate.weight.float(), self.gate.bias.float())
            dense = (scores / self.options.temperature).softmax(dim=-1)
            if not self.options.top_k:
                self.balance = None
                return dense
            values, chosen = dense.topk(self.options.top_k, dim=-1)
            sparse = torch.zeros_like(dense).scatter(-1, chosen, values / values.sum(-1, keepdim=True))
            self.balance = _switch_balance(dense, sparse)
            return sparse

    def beside_mlp(self, tokens: Tensor) -> Tensor | None:
        """(..., D) -> (..., D) where the experts are beside the MLP."""
        return self.mixed(tokens) if self.options.beside == "mlp" else None

    def beside_attention(self, tokens: Tensor) -> Tensor | None:
        """(..., D) -> (..., D) where they are beside the attention."""
        return self.mixed(tokens) if self.options.beside == "attention" else None

    def mixed(self, tokens: Tensor) -> Tensor:
        """(..., D) -> (..., D), s times what the experts make of each token, weighted by its gates."""
        gates = self.gates(tokens)
        if not self.training:
            self.load = self.load + gates.detach().flatten(0, -2).mean(0).cpu()
            self.passes += 1
        experts, width, _ = self.down.shape
        hidden = tokens @ self.down.flatten(0, 1).T
        if self.options.expert == "bottleneck":
            hidden = nn.functional.gelu(hidden)
        hidden = hidden.reshape(*hidden.shape[:-1], experts, width)
        weighted = (hidden * gates.unsqueeze(-1).to(hidden.dtype)).flatten(-2)
        total: Tensor = weighted @ self.up.permute(0, 2, 1).flatten(0, 1)
        return total * self.options.scale


def _switch_balance(dense: Tensor, sparse: Tensor) -> Tensor:
    """E sum_e f_e P_e: f the share of tokens whose largest gate is e, P the mean probability of e."""
    experts = dense.shape[-1]
    first = nn.functional.one_hot(sparse.flatten(0, -2).argmax(-1), experts).float().mean(0)
    return experts * (first * dense.flatten(0, -2).mean(0)).sum()
