"""Mean of clipped updates: a site's change of all tensors together is shortened to a largest norm; none is carried far.

    w^{t+1} = w^t + sum_k p_k d_k min(1, C / |d_k|),     d_k = w_k - w^t

Sun et al. 2019, 1911.07963, without their noise. With C = 0 it is the lower median of the round's norms, which fewer
than half of the sites cannot raise above that of a sound one; all updates must be there first, and wait on disk.

A site can move the mean by p_k C in a round, and no more; nothing else is withstood. Its direction is not looked at,
p_k is as large as the number of images that it claims, and one that lies a little each round is not found. Sites that
differ much from the others for good reasons are held back as liars are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from statistics import median_low
from typing import ClassVar

from torch import Tensor

from sammit.errors import UserError
from sammit.methods.aggregators import base
from sammit.methods.aggregators.base import check_something_travels
from sammit.methods.state import WeightedMean, distance
from sammit.vocabulary import AnyState, State

PAPER = "Sun et al. 2019 (1911.07963)"
TRAVELS = "what the method shares"
STAYS = "nothing"
EXACT = "no: of pairs too, each factor by itself"


@dataclass(frozen=True)
class Options:
    """`[method.clipped_mean]`."""

    norm: float = 0.0  # C, of all shared tensors' changes together; 0: the lower median of the round's norms

    def check(self) -> None:
        """Raise UserError where a value cannot be right."""
        if not (isfinite(self.norm) and self.norm >= 0):
            raise UserError("method.clipped_mean.norm: must be above 0, or 0 for the median of the round's norms")


class Aggregator(base.Aggregator):
    """Shortens what is long, then takes the mean by weight; `clip_norm` and `clipped` are in the round's log."""

    all_at_once: ClassVar[bool] = True
    least: int = 3
    options: Options

    def __init__(self, options: Options | None = None) -> None:
        super().__init__(options or Options())
        self.options.check()

    def check(self, shared: AnyState, sites: Sequence[str]) -> None:
        """Also where no low-rank factors travel."""
        check_something_travels(shared)

    def notes(self) -> tuple[str, ...]:
        """What was shortened to what."""
        norm = f"{self.options.norm:g}" if self.options.norm else "the median of the round's"
        return (f"Before the mean was taken, each site's update was shortened to a norm of {norm} at most.",)

    def merge(
        self, shared: AnyState, updates: Iterable[tuple[Mapping[str, Tensor], float]]
    ) -> tuple[AnyState, Mapping[str, float]]:
        """Norms of all first, then the mean of one after another."""
        arrived = list(updates)
        if not arrived:
            return shared, {}
        norms = [distance(tensors, shared) for tensors, _ in arrived]
        largest = self.options.norm or median_low(norms)
        mean = WeightedMean()
        for (tensors, weight), norm in zip(arrived, norms, strict=True):
            mean.add(shortened(tensors, shared, largest / norm) if norm > largest else tensors, weight)
        return mean.mean(), {"clip_norm": largest, "clipped": sum(norm > largest for norm in norms)}


def shortened(tensors: Mapping[str, Tensor], start: AnyState, share: float) -> State:
    """start + share (tensors - start), in the tensors' own types; computed in float64."""
    return {
        name: start[name].double().lerp(tensor.double(), share).to(tensor.dtype) for name, tensor in tensors.items()
    }
