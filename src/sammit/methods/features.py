"""What a module inside the model is given and says, for methods whose losses look at features; holds no method."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    import numpy as np

ENCODER = "vision_encoder"
"""Segment Anything's encoder: (B, 3, H, W) normalised pixels -> (B, X, h, w); with finer maps behind it in SAM 2."""

LAST_FEATURES = ("detail", "mask_decoder.upscale_conv2", "network.model.1")
"""Where a model's last map of features comes from, the first that it has: Segment Anything's refined or upscaled
embedding, of which the masks are linear maps, or what the U-Net's last level is given."""


def first_module(model: nn.Module, names: Sequence[str]) -> nn.Module | None:
    """The first of these modules that the model has; None where it has none, or has left it out."""
    known = dict(model.named_modules())
    return next((known[name] for name in names if name in known), None)


def first_of(said: Tensor | tuple[Tensor, ...]) -> Tensor:
    """What a module says, or the first of the tensors that it says."""
    return said if isinstance(said, Tensor) else said[0]


@contextmanager
def watched(module: nn.Module) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """A list that gains (first input, first output) with each forward pass of `module`, gradients and all."""
    seen: list[tuple[Tensor, Tensor]] = []
    handle = module.register_forward_hook(lambda _, given, said: seen.append((given[0], first_of(said))))
    try:
        yield seen
    finally:
        handle.remove()


@contextmanager
def decoded_twice(model: nn.Module, rng: np.random.Generator, rate: float) -> Iterator[None]:
    """Within, Segment Anything decodes each embedding as it is and, B items later, with channels dropped.

    The encoder runs once; where it says finer maps too, they lose channels likewise. The model says (2 B, C, h, w).

    Args:
        model: one with an encoder, by name.
        rng: draws the channels, for each image its own.
        rate: share of the channels that become 0; the others are divided by 1 - rate, as in dropout.
    """

    def both(_: nn.Module, __: Any, said: Tensor | tuple[Tensor, ...]) -> Tensor | tuple[Tensor, ...]:
        return dropped(said) if isinstance(said, Tensor) else tuple(map(dropped, said))

    def dropped(features: Tensor) -> Tensor:
        stays = torch.from_numpy(rng.random(tuple(features.shape[:2])) >= rate).to(features)
        return torch.cat([features, features * stays[..., None, None] / (1 - rate)])

    def pixels_twice(_: nn.Module, given: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        return given[0], torch.cat([given[1], given[1]])

    handles = [model.get_submodule(ENCODER).register_forward_hook(both)]
    if getattr(model, "detail", None) is not None:  # beside the embedding it is given the image
        handles.append(model.get_submodule("detail").register_forward_pre_hook(pixels_twice))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
