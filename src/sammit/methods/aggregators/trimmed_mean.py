"""Coordinate-wise trimmed mean: of every number the least and the largest are left out; some sites may send anything.

    w_j = mean of the w_{k,j} without the floor(beta K) least and the floor(beta K) largest

Yin et al., 1803.01498, algorithm 1, option II, on models after local training in place of gradients. It withstands any
f <= floor(beta K) sites that send whatever they like, and wastes fewer of the sound sites' numbers than the median.
With fewer than 1 / beta sites nothing would be left out, so that such a run is refused. `coordinates` says what else it
asks for and what breaks it: sites count alike, whatever their number of images.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count

from sammit.errors import UserError
from sammit.methods.aggregators.coordinates import Coordinatewise

PAPER = "Yin et al. 2018 (1803.01498)"
TRAVELS = "what the method shares"
STAYS = "nothing"
EXACT = "no: of pairs too, each number by itself"


@dataclass(frozen=True)
class Options:
    """`[method.trimmed_mean]`."""

    share: float = 0.25  # beta: of the sites, left out at each end

    def check(self) -> None:
        """Raise UserError where a value cannot be right."""
        if not 0 < self.share < 0.5:
            raise UserError("method.trimmed_mean.share: must be above 0 and below 0.5")


class Aggregator(Coordinatewise):
    """Leaves out a share at each end."""

    options: Options

    def __init__(self, options: Options | None = None) -> None:
        super().__init__(options or Options())
        self.options.check()
        self.least = next(sites for sites in count(3) if self.left_out(sites))

    def left_out(self, count: int) -> int:
        """floor(beta K)."""
        return int(self.options.share * count)

    def notes(self) -> tuple[str, ...]:
        """How many are left out, and that sites count alike."""
        return (
            f"Of each number the {self.options.share:.0%} least and largest over the sites were left out of the mean; "
            "sites count alike, however many images they have.",
        )
