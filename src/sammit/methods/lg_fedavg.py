"""LG-FedAvg: the body stays, the head is shared; the opposite of FedPer.

    (body_k, head_k) <- local training from (body_k, head^t),     head^{t+1} = sum_k (n_k / n) head_k

Liang et al., 2001.01523. Each site learns how to look at its own images, all agree on what to say of them. The body
is the encoder; where it is frozen, its adapters. `head = "decoder"` shares the whole mask decoder, `head = "output"`
only hypernetworks, detail and mixer; the rest of the decoder then counts as body.

Where the published code deviates: it starts from a model that federated averaging has trained, it averages sites
equally, and it keeps each site's best round by its test score. Here all sites start from the common base weights,
count by their samples, and rounds are selected as for every method.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sammit.methods import base
from sammit.methods.base import Judged, Outcome, Which, Work
from sammit.methods.heads import Head, in_head, need_both

PAPER = "Liang et al. 2020 (2001.01523)"
TRAVELS = "the mask decoder (head = decoder), or its hypernetworks, detail and mixer (head = output)"
STAYS = "the encoder, or its adapters; with head = output most of the decoder too"


@dataclass(frozen=True)
class Options(base.Options):
    """`[method]` of lg_fedavg."""

    head: Head = "decoder"  # what is shared: all outside the encoder, or hypernetworks, detail and mixer


class Method(base.Method):
    """Shares the head; training is the default."""

    judged: ClassVar[tuple[Which, ...]] = ("personal",)
    reported: ClassVar[Which] = "personal"
    unseen: ClassVar[tuple[Judged, ...]] = ("experts", "sources")
    unseen_rule: ClassVar[str] = (
        "the shared head on the mean of the sites' bodies; beside it the mean score of their own models"
    )
    options: Options

    def __init__(self, options: Options | None = None) -> None:
        super().__init__(options or Options())

    def shares(self, name: str) -> bool:
        """The head alone."""
        return in_head(name, self.options.head)

    def train(self, work: Work) -> Outcome:
        """Plain local training of both parts."""
        need_both(self.shared_names(work.live), self.personal_names(work.live))
        return super().train(work)
