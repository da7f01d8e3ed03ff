"""Products of matrices in fp32 on processors that oneDNN uses in full and MKL does not.

torch hands products in fp32 to MKL, which leaves the wide registers of other makers' processors unused. oneDNN, which
torch uses for convolutions and for bf16, takes less than half the time there.
"""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.backends.cuda import flash_sdp_enabled
from torch.jit._trace import is_tracing

DESCRIBED = Path("/proc/cpuinfo")
"""Where Linux names the processor's maker."""

PAYS = 1 << 23
"""Multiplications from which on oneDNN is the faster one; below, beginning takes longer than it saves."""


class Linear(nn.Linear):
    """A linear layer, by whichever library is faster."""

    def forward(self, tokens: Tensor) -> Tensor:
        """(..., D) -> (..., E)."""
        if not in_onednn(tokens) or tokens.numel() * self.out_features < PAYS:
            return super().forward(tokens)
        return _Product.apply(tokens, self.weight, self.bias)  # type: ignore[no-any-return, no-untyped-call]


class _Product(torch.autograd.Function):
    """(..., D), (E, D) and (E,) -> (..., E). It has no second derivative."""

    @staticmethod
    def forward(ctx: Any, tokens: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(tokens if ctx.needs_input_grad[1] else None, weight)
        return times(tokens, weight, bias)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        tokens, weight = ctx.saved_tensors
        to_tokens, to_weight, to_bias = ctx.needs_input_grad
        rows = grad.reshape(-1, grad.shape[-1])
        return (
            times(grad, weight.T) if to_tokens else None,
            times(rows.T, tokens.reshape(-1, tokens.shape[-1]).T) if to_weight else None,
            rows.sum(0) if to_bias else None,
        )


def times(a: Tensor, b: Tensor, bias: Tensor | None = None) -> Tensor:
    """(..., c), (m, c) and (m,) -> (..., m): a b^T and the bias by oneDNN, in fp32; it has no gradient.

    What does not lie row by row or column by column in memory is copied: oneDNN takes a hundred times as long over it.
    """
    b = b if b.is_contiguous() or b.mT.is_contiguous() else b.contiguous()
    return torch.ops.mkldnn._linear_pointwise(a.contiguous(), b, bias, "none", [], None)  # type: ignore[no-any-return]


def swap_linears(module: nn.Module) -> None:
    """Let each plain linear layer in `module` be a `Linear`; names and tensors stay."""
    for layer in module.modules():
        if type(layer) is nn.Linear:
            layer.__class__ = Linear


def in_onednn(given: Tensor) -> bool:
    """Whether a product with `given` is one that `times` can make, and the faster way."""
    fp32 = given.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    return fp32 and mkl_holds_back() and ways_of_ours(given)


def ways_of_ours(given: Tensor) -> bool:
    """Whether what is written for processors may stand in for torch's own ways.

    Not in a program that is traced, which would hold each of its pieces; and not where torch's plain attention is asked
    for, since what asks for it wants a second derivative.
    """
    traced = torch.compiler.is_compiling() or is_tracing()  # type: ignore[no-untyped-call]
    plain = not flash_sdp_enabled()  # type: ignore[no-untyped-call]
    return given.device.type == "cpu" and not traced and not plain


@cache
def mkl_holds_back() -> bool:
    """Whether this processor is of the x86 family, but not Intel's, and torch has both libraries."""
    makers = DESCRIBED.read_text() if DESCRIBED.exists() else platform.processor()
    both = torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return both and any(maker in makers for maker in ("AuthenticAMD", "HygonGenuine"))
