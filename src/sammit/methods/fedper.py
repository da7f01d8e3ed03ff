"""FedPer: the body is shared, the head stays; both are trained together.

    (body_k, head_k) <- local training from (body^t, head_k),     body^{t+1} = sum_k (n_k / n) body_k

Arivazhagan et al., 1912.00818. The body is the encoder; where it is frozen, its adapters. What the head is, is an
option. `head = "decoder"` keeps all of the mask decoder, everything outside the encoder: a strong choice, for with
low-rank factors in the encoder of size B (0.15 million weights) nearly all that is trained is the decoder (3.5 million)
and would stay. `head = "output"` keeps only what makes maps of an embedding: hypernetworks, detail and mixer.

There is no global model: the shared body has no head of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sammit.methods import base
from sammit.methods.base import Judged, Outcome, Which, Work
from sammit.methods.heads import Head, in_head, need_both

PAPER = "Arivazhagan et al. 2019 (1912.00818)"
TRAVELS = "the encoder, or its adapters; with head = output most of the decoder too"
STAYS = "the mask decoder (head = decoder), or its hypernetworks, detail and mixer (head = output)"


@dataclass(frozen=True)
class Options(base.Options):
    """`[method]` of fedper."""

    head: Head = "decoder"  # what stays: all outside the encoder, or hypernetworks, detail and mixer


class Method(base.Method):
    """Shares the body; training is the default."""

    judged: ClassVar[tuple[Which, ...]] = ("personal",)
    reported: ClassVar[Which] = "personal"
    unseen: ClassVar[tuple[Judged, ...]] = ("experts", "sources")
    unseen_rule: ClassVar[str] = (
        "the shared body with the mean of the sites' heads; beside it the mean score of their own models"
    )
    options: Options

    def __init__(self, options: Options | None = None) -> None:
        super().__init__(options or Options())

    def shares(self, name: str) -> bool:
        """All but the head."""
        return not in_head(name, self.options.head)

    def train(self, work: Work) -> Outcome:
        """Plain local training of both parts."""
        need_both(self.shared_names(work.live), self.personal_names(work.live))
        return super().train(work)
