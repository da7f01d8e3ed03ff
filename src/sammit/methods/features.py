"""What a module inside the model is given and says, for methods whose losses look at features; holds no method."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor, nn

ENCODER = "vision_encoder"
"""Segment Anything's encoder: (B, 3, H, W) normalised pixels -> (B, X, h, w)."""

LAST_FEATURES = ("detail", "mask_decoder.upscale_conv2", "network.model.1")
"""Where a model's last map of features comes from, the first that it has: Segment Anything's refined or upscaled
embedding, of which the masks are linear maps, or what the U-Net's last level is given."""


def first_module(model: nn.Module, names: Sequence[str]) -> nn.Module | None:
    """The first of these modules that the model has; None where it has none, or has left it out."""
    known = dict(model.named_modules())
    return next((known[name] for name in names if name in known), None)


@contextmanager
def watched(module: nn.Module) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """A list that gains (first input, output) with each forward pass of `module`, gradients and all."""
    seen: list[tuple[Tensor, Tensor]] = []
    handle = module.register_forward_hook(lambda _, given, said: seen.append((given[0], said)))
    try:
        yield seen
    finally:
        handle.remove()
