"""Body and head of a network, told apart by name: what methods that part a model in two agree on.

The body is the encoder (where it is frozen, its adapters); the head is everything else. A head of its own can be all
of the decoder, or its output alone: hypernetworks, detail and mixer, which turn an embedding into the structures' maps.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from sammit.errors import UserError

Head = Literal["decoder", "output"]

OUTPUT = frozenset({"output_hypernetworks_mlps", "detail", "mixer"})


def in_body(name: str) -> bool:
    """Whether a tensor belongs to the encoder or to its adapters."""
    return name.startswith("vision_encoder.")


def in_head(name: str, head: Head) -> bool:
    """Whether a tensor belongs to the head: outside the encoder and, for "output", in one of the output's modules."""
    return not in_body(name) and (head == "decoder" or not OUTPUT.isdisjoint(name.split(".")))


def need_both(shared: Iterable[str], kept: Iterable[str]) -> None:
    """Raise UserError where a method that parts the trained tensors finds one part empty: it would be another method.

    Args:
        shared, kept: the trained names that travel, and those that stay.
    """
    if not list(shared):
        raise UserError(
            "model: of what is trained the method shares nothing, which is local_only; "
            "train the encoder (model.train = 'all') or put adapters into it (model.adapter)"
        )
    if not list(kept):
        raise UserError(
            "model: of what is trained the method keeps nothing at a site, which is fedavg; choose a Segment Anything"
        )
