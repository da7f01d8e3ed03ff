"""Rules that take each number by itself, over all sites at once: the least and the largest do not count.

Where f of K sites send anything at all, and f numbers or more are left out at each end, what is kept lies between the
least and the largest number of the sound sites: nobody can carry it further than a sound site did.

What they ask for, and what breaks them: three sites or more, most of them sound (`median`, `trimmed_mean` say how
many), and sites that mean nearly the same. Of data that differ by site the middle is none's optimum, and a small group
with rare images is outvoted as a liar is. How many images a site has does not count: nobody gains a voice by claiming
more. Low-rank factors are taken number by number too, so that the error of merging them (`naive`) is there, and not
measured. What a method sends beside weights is not looked at. Updates must be seen one by one: sums made in secret
cannot be taken so.

All sites' updates wait on disk; memory holds one tensor of each.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from sammit.methods.aggregators import base
from sammit.methods.aggregators.base import check_something_travels
from sammit.methods.state import PIECE
from sammit.vocabulary import AnyState


class Coordinatewise(base.Aggregator):
    """The mean of the numbers that are left when as many are taken away at each end; a rule says how many."""

    all_at_once: ClassVar[bool] = True
    weighs: ClassVar[bool] = False
    least: int = 3

    def check(self, shared: AnyState, sites: Sequence[str]) -> None:
        """Also where no low-rank factors travel."""
        check_something_travels(shared)

    def left_out(self, count: int) -> int:
        """How many of `count` numbers are left out at each end; fewer than half."""
        raise NotImplementedError

    def merge(
        self, shared: AnyState, updates: Iterable[tuple[Mapping[str, Tensor], float]]
    ) -> tuple[AnyState, Mapping[str, float]]:
        """The middle of every number; weights are not looked at."""
        states = [tensors for tensors, _ in updates]
        if not states:
            return shared, {}
        cut = self.left_out(len(states))
        return {name: middle([state[name] for state in states], cut) for name in states[0]}, {}


def middle(tensors: Sequence[Tensor], cut: int) -> Tensor:
    """The mean of what is left of each number when `cut` are taken away at each end, in the tensors' type.

    It does not depend on the tensors' order. A piece is sorted at a time; the mean is taken in float64.

    Args:
        tensors: K of one shape and type, every number finite.
        cut: fewer than half of K.
    """
    found = torch.empty_like(tensors[0], memory_format=torch.contiguous_format)
    flat = (torch.split(tensor.detach().reshape(-1), PIECE) for tensor in (found, *tensors))
    for place, *pieces in zip(*flat, strict=True):
        ordered = torch.stack(pieces).sort(0).values
        place.copy_(ordered[cut : len(pieces) - cut].double().mean(0))
    return found
