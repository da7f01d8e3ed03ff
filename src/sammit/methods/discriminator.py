"""A small network that tells two encoders' features apart, place by place; holds no method."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, leaky_relu

from sammit.randomness import key_to_seed

HIDDEN = 32


class Discriminator(nn.Module):
    """Two convolutions of one pixel: what it says of a place depends on the features there alone."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.hidden, self.answer = nn.Conv2d(channels, HIDDEN, 1), nn.Conv2d(HIDDEN, 1, 1)

    def forward(self, features: Tensor) -> Tensor:
        """(B, X, h, w) -> (B, 1, h, w) logits: above 0 where it takes them for the other encoder's."""
        logits: Tensor = self.answer(leaky_relu(self.hidden(features), 0.2))
        return logits


def new_discriminator(channels: int, *key: object) -> Discriminator:
    """One whose initial values are a function of the key."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(key_to_seed(*key, "discriminator"))
        return Discriminator(channels)


def telling_apart(discriminator: nn.Module, own: Tensor, other: Tensor) -> Tensor:
    """What the discriminator minimises: mean binary cross-entropy, own features 0 and the other's 1; (B, X, h, w)."""
    return (_taken_for(discriminator(own), 0.0) + _taken_for(discriminator(other), 1.0)) / 2


def being_taken_for(discriminator: nn.Module, own: Tensor) -> Tensor:
    """What the encoder minimises: mean binary cross-entropy of its own features taken for the other's."""
    return _taken_for(discriminator(own), 1.0)


def _taken_for(logits: Tensor, label: float) -> Tensor:
    return binary_cross_entropy_with_logits(logits.float(), torch.full_like(logits, label, dtype=torch.float32))
