"""Counted floating-point operations: a multiplication and an addition are two; what is elementwise is not counted.

torch's counter knows matrix products, convolutions, and attention on a GPU. The fused attention of a CPU and oneDNN's
linear layers it passes over in silence; here they are counted by the same rule.
"""

from __future__ import annotations

from math import prod
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

Shape = tuple[int, ...]


def flop_counter() -> FlopCounterMode:
    """A context that counts; `get_total_flops()` says how many so far."""
    aten = torch.ops.aten
    fused = {
        aten._scaled_dot_product_flash_attention_for_cpu: _forward,
        aten._scaled_dot_product_flash_attention_for_cpu_backward: _backward,
    }
    if hasattr(torch.ops.mkldnn, "_linear_pointwise"):  # not on every processor
        fused[torch.ops.mkldnn._linear_pointwise] = _linear
    return FlopCounterMode(display=False, custom_mapping=fused)


def _forward(query: Shape, key: Shape, value: Shape, *_: Any, **__: Any) -> int:
    """q k' and p v."""
    return _product(query, key) * (query[-1] + value[-1])


def _backward(_: Shape, query: Shape, key: Shape, value: Shape, *__: Any, **___: Any) -> int:
    """q k' once more, then the gradients of p, v, q and k."""
    return _product(query, key) * (3 * query[-1] + 2 * value[-1])


def _linear(given: Shape, weight: Shape, *_: Any, **__: Any) -> int:
    """A product of each row with each row of the weights."""
    return 2 * prod(given) * weight[0]


def _product(query: Shape, key: Shape) -> int:
    """Operations of a product of all queries with all keys, for each channel."""
    batch, heads, queries, _ = query
    return 2 * batch * heads * queries * key[-2]
