"""Low-rank factors into the weights they stand beside, where that is exact."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from sammit.models.adapters.base import Adapter
from sammit.models.adapters.decoder_lora import Adapter as DecoderFactors
from sammit.models.adapters.lora import Adapter as Factors
from sammit.models.decoder import Attention
from sammit.models.encoder import Block


def merge(model: nn.Module) -> tuple[str, ...]:
    """Merge what is linear, take out what is switched off, leave the rest where it is; says what became of each.

    Args:
        model: on the CPU, in fp32; it is changed.
    """
    became: dict[str, set[str]] = {"merged": set(), "off": set(), "kept": set()}
    for module in model.modules():
        if not isinstance(module, Block | Attention):
            continue
        for name, adapter in list(module.adapters.items()):
            assert isinstance(adapter, Adapter)
            fate = _fate(adapter)
            if fate == "merged":
                _add(module, adapter)
            if fate != "kept":
                del module.adapters[name]
            became[fate].add(name)
    said = {
        "merged": "low-rank factors merged into the weights they stand beside, which is exact",
        "off": "switched off in this model, and left out",
        "kept": "kept as modules of their own, which no weight of the base can express",
    }
    return tuple(f"Adapters {', '.join(sorted(names))}: {said[fate]}." for fate, names in became.items() if names)


def _fate(adapter: Adapter) -> str:
    if not adapter.active or adapter.weight == 0:
        return "off"
    return "merged" if isinstance(adapter, Factors | DecoderFactors) else "kept"


def _add(module: Block | Attention, adapter: Adapter) -> None:
    """Add what a linear adapter does to its neighbours' weights; in fp64, so that the sum is rounded once."""
    at: Any = module
    if isinstance(adapter, Factors):
        _into(at.attn.qkv, adapter.double().to_qkv(_eye(at.attn.qkv)), adapter.weight)
    elif isinstance(adapter, DecoderFactors):
        _into(at.q_proj, adapter.double().to_q(_eye(at.q_proj)), adapter.weight)
        _into(at.v_proj, adapter.double().to_v(_eye(at.v_proj)), adapter.weight)


def _eye(layer: nn.Linear) -> Tensor:
    return torch.eye(layer.in_features, dtype=torch.float64)


def _into(layer: nn.Linear, change: Tensor, weight: float) -> None:
    """(given, wanted) what becomes of each unit vector, into a layer's (wanted, given) weight."""
    layer.weight.data = (layer.weight.double() + weight * change.T).float()
