"""Tensors that are learned outside of the model that uses them: a second model, or weights of a mixture."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from sammit.vocabulary import State


class Tensors(nn.Module):
    """Named tensors as parameters under the same dotted names, so that a `Trainer` can step on them."""

    def __init__(self, state: State, like: nn.Module) -> None:
        """
        Args:
            state: first values; copied.
            like: the model that uses them, for the device of each name.
        """
        super().__init__()
        device = {name: parameter.device for name, parameter in like.named_parameters()}
        for name, tensor in state.items():
            place: nn.Module = self
            *path, last = name.split(".")
            for part in path:
                if part not in dict(place.named_children()):
                    place.add_module(part, nn.Module())
                place = place.get_submodule(part)
            place.register_parameter(last, nn.Parameter(tensor.detach().to(device[name], copy=True)))


def mixed(start: Mapping[str, Tensor], end: Mapping[str, Tensor], weight: Mapping[str, Tensor]) -> State:
    """start + weight (end - start), name by name; a weight of 0 gives `start` and one of 1 gives `end`, bit for bit.

    Args:
        start, end: the names of `weight`, or more.
        weight: a scalar for each name, or one value for each element.
    """
    return {name: torch.lerp(start[name], end[name], share) for name, share in weight.items()}
