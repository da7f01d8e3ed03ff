"""Coordinate-wise median: the middle one of every number, or the mean of the middle two; a few sites may send anything.

    w_j = median_k w_{k,j}

Yin et al., 1803.01498, algorithm 1, option I, on models after local training in place of gradients. It withstands any
f < K / 2 sites that send whatever they like. `coordinates` says what it asks for and what breaks it: sites count alike,
whatever their number of images.
"""

from __future__ import annotations

from sammit.methods.aggregators import base
from sammit.methods.aggregators.coordinates import Coordinatewise

PAPER = "Yin et al. 2018 (1803.01498)"
TRAVELS = "what the method shares"
STAYS = "nothing"
EXACT = "no: of pairs too, each number by itself"

Options = base.Options


class Aggregator(Coordinatewise):
    """Leaves out all but the middle."""

    def left_out(self, count: int) -> int:
        """All but one number at an odd count, all but two at an even one."""
        return (count - 1) // 2

    def notes(self) -> tuple[str, ...]:
        """That sites count alike."""
        return ("Updates were merged by the median of each number; sites count alike, however many images they have.",)
