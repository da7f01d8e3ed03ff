"""Named tensors: select, compare, average. Pure functions; nothing here knows a method."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from hashlib import sha256
from math import fsum, isfinite, sqrt

import torch
from torch import Tensor, nn

from sammit.vocabulary import AnyState, State


def select(state: AnyState, keep: Callable[[str], bool]) -> State:
    """The tensors whose whole name `keep` accepts."""
    return {name: tensor for name, tensor in state.items() if keep(name)}


def copied(state: AnyState) -> State:
    """The same tensors, detached, on the CPU, in memory of their own."""
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in state.items()}


def take(model: nn.Module, names: Iterable[str]) -> State:
    """Copies of some of a model's tensors."""
    own = dict(model.named_parameters())
    return copied({name: own[name] for name in names})


@torch.no_grad()
def put(model: nn.Module, state: AnyState) -> None:
    """Write named tensors into a model, in place; names it lacks are an error of the program, not of the user."""
    own = dict(model.named_parameters())
    for name, tensor in state.items():
        own[name].copy_(tensor)


def with_prefix(prefix: str, state: Mapping[str, Tensor]) -> State:
    """{"x": t} -> {"PREFIX.x": t}."""
    return {f"{prefix}.{name}": tensor for name, tensor in state.items()}


def without_prefix(prefix: str, state: Mapping[str, Tensor]) -> State:
    """The tensors under "PREFIX.", the prefix taken off."""
    start = f"{prefix}."
    return {name.removeprefix(start): tensor for name, tensor in state.items() if name.startswith(start)}


def without_moments(private: State, names: Iterable[str]) -> State:
    """A site's private state without the optimiser's moments of some tensors: "optimiser.NAME|KEY"."""
    stale = {f"optimiser.{name}" for name in names}
    return {key: tensor for key, tensor in private.items() if key.partition("|")[0] not in stale}


def equal_shares(names: Iterable[str]) -> State:
    """name -> a weight (), float64; the same for all, and they sum to 1."""
    names = list(names)
    return {name: torch.tensor(1 / len(names), dtype=torch.float64) for name in names}


def has_component(name: str, component: str) -> bool:
    """Whether one whole dotted component of `name` is `component`: "fc1" is none of "fc10.weight"."""
    return component in name.split(".")


class WeightedMean:
    """sum_k n_k w_k / sum_k n_k, fed one state after another; memory does not grow with their number.

    Sums are kept in float64: n_k w_k is exact there for whole n_k below 2^29, so that the mean of one state is that
    state, bit for bit. The order of feeding is the order of summation; callers feed in site order. What is held is the
    sums, twice a float32 state, and half a megabyte beside them. States that say that they are `lasting` lie on disk
    and stay there: they are added at the end, tensor by tensor, to the same numbers, and one sum is held.
    """

    def __init__(self) -> None:
        self._sum: State = {}
        self._dtypes: dict[str, torch.dtype] = {}
        self._lasting: list[tuple[Mapping[str, Tensor], float]] = []
        self.weight = 0.0

    def add(self, state: Mapping[str, Tensor], weight: float) -> None:
        """Add one state; all must have the same names, or some would be averaged with the wrong weight."""
        first = self._lasting[0][0] if self._lasting else self._sum
        if self.weight and state.keys() != first.keys():
            raise ValueError("states to be averaged must have the same names")
        if getattr(state, "lasting", False):
            self._lasting.append((state, weight))
            self.weight += weight
            return
        self._add(state, weight)
        self.weight += weight

    def _add(self, state: Mapping[str, Tensor], weight: float) -> None:
        for name, tensor in state.items():
            if name in self._sum:
                _add_weighted(self._sum[name], tensor, weight)
            else:
                self._dtypes[name] = tensor.dtype
                self._sum[name] = tensor.detach().to(torch.float64, copy=True).contiguous().mul_(weight)

    def mean(self) -> State:
        """The mean in the states' own dtype; empty when nothing was added.

        Each sum is given up for its mean, so that memory never holds both whole.
        """
        names = list(self._sum) or [name for state, _ in self._lasting[:1] for name in state]
        return {name: self._mean_of(name) for name in names}

    def _mean_of(self, name: str) -> Tensor:
        for state, weight in self._lasting:
            self._add({name: state[name]}, weight)
        return self._sum.pop(name).div_(self.weight).to(self._dtypes[name])


PIECE = 1 << 16  # numbers: in float64 half a megabyte, which stays in a core's own cache


def _add_weighted(total: Tensor, tensor: Tensor, weight: float) -> None:
    """total += weight * tensor in float64, in place, a piece at a time: no second tensor of float64 is ever long."""
    if total.numel() <= PIECE:
        total.add_(tensor.detach().double(), alpha=weight)
        return
    for place, piece in zip(*(torch.split(t.detach().reshape(-1), PIECE) for t in (total, tensor)), strict=True):
        place.add_(piece.double(), alpha=weight)


def mean_of(states: Iterable[State]) -> State:
    """The plain mean of states with equal names."""
    mean = WeightedMean()
    for state in states:
        mean.add(state, 1)
    return mean.mean()


def fingerprint(state: AnyState) -> str:
    """SHA-256 over names, dtypes, shapes and bytes, in order of name."""
    digest = sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def first_not_finite(state: Mapping[str, Tensor]) -> str | None:
    """The name of a tensor that holds NaN or infinity, or None."""
    return next((name for name, tensor in state.items() if not is_finite(tensor)), None)


def is_finite(tensor: Tensor) -> bool:
    """Whether every number is; without a copy where the sums are, for NaN and infinity never leave a sum."""
    if not tensor.is_floating_point():
        return True
    pieces = torch.split(tensor.detach().reshape(-1), PIECE)
    return all(isfinite(piece.sum().item()) or bool(piece.isfinite().all()) for piece in pieces)


def set_active(model: nn.Module, component: str, active: bool) -> None:
    """Take the adapters named `component` out of the model's path, or put them back."""
    for name, module in model.named_modules():
        if name.rpartition(".")[2] == component and hasattr(module, "active"):
            module.active = active


def set_weight(model: nn.Module, component: str, weight: float) -> None:
    """Multiply what the adapters named `component` add by `weight`."""
    for name, module in model.named_modules():
        if name.rpartition(".")[2] == component and hasattr(module, "active"):
            module.weight = weight


def difference(first: AnyState, second: AnyState) -> State:
    """first - second, name by name; names are those of `first`."""
    return {name: tensor - second[name] for name, tensor in first.items()}


def distance(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> float:
    """The L2 norm of first - second over all tensors together, in float64; names are those of `first`."""
    squares = (float((tensor.double() - second[name].double()).square().sum()) for name, tensor in first.items())
    return sqrt(fsum(squares))  # whatever the order of names


def zeros(state: AnyState) -> State:
    """Zeros in the shapes and types of a state."""
    return {name: torch.zeros_like(tensor) for name, tensor in state.items()}


def squared_norm(state: State) -> Tensor:
    """Sum of squares over all tensors, a scalar."""
    return torch.stack([tensor.square().sum() for tensor in state.values()]).sum()
