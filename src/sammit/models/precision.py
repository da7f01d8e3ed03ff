"""How a model computes: in fp32, or its products in bf16 with the weights that nobody trains kept in bf16 as well.

Under autocast a product rounds both its sides to bf16, weights as much as activations. A frozen layer whose weights are
kept rounded says the same, bit for bit, in half the memory and without rounding them anew at every step. Everything
that trains stays in fp32, and so do norms, positions, the sums between layers and the loss.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn

from sammit.vocabulary import is_adapter

_PRODUCTS = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)


class Computing(nn.Module):
    """A model that computes alike wherever it is called: in training, in scoring, in use.

    Attributes:
        in_bf16: products are in bf16; what goes in and what comes out is fp32.
    """

    in_bf16: bool = False

    def computing(self, device: torch.device) -> AbstractContextManager[object]:
        """Around a forward pass."""
        return torch.autocast(device.type, torch.bfloat16) if self.in_bf16 else nullcontext()


def compute_in(model: nn.Module, precision: str, changing: Collection[str] = ()) -> None:
    """Set how the model computes, once, before it is used.

    A model with an engine of its own (nnU-Net) decides by itself.

    Args:
        model: with its weights; whoever wants their hash takes it before.
        precision: "fp32", which leaves all as it is, or "bf16".
        changing: names of tensors that are trained or sent, which stay in fp32, as adapters do.
    """
    if precision == "fp32" or not isinstance(model, Computing):
        return
    model.in_bf16 = True
    for prefix, module in model.named_modules():
        for last, parameter in module.named_parameters(recurse=False):
            name = f"{prefix}.{last}"
            if isinstance(module, _PRODUCTS) and name not in changing and not is_adapter(name):
                parameter.data = parameter.data.to(torch.bfloat16)
