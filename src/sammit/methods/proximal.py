"""A pull towards fixed tensors: the proximal term of FedProx and of Ditto's second model."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from sammit.methods.state import squared_norm
from sammit.vocabulary import Batch, State


def pulled(
    objective: Callable[[Batch], Tensor], model: nn.Module, to: State, weight: float
) -> Callable[[Batch], Tensor]:
    """The objective plus weight / 2 ||w - w_to||^2, summed over every element of every named tensor.

    Args:
        objective: a batch's loss under `model`.
        model: its tensors w are pulled.
        to: where to, by name; tensors that are not named are free.
        weight: mu of FedProx, lambda of Ditto.
    """
    own = dict(model.named_parameters())
    fixed = {name: tensor.to(own[name].device) for name, tensor in to.items()}

    def total(batch: Batch) -> Tensor:
        away = squared_norm({name: own[name] - tensor for name, tensor in fixed.items()})
        return objective(batch) + weight / 2 * away

    return total
