"""FedRep: the body is shared, the head stays; each round first the head is trained, then the body.

    head_k <- tau_h steps on F_k(body^t, head_k),            body frozen
    body_k <- tau_b steps on F_k(body, head_k) from body^t,  head frozen
    body^{t+1} = sum_k (n_k / n) body_k

Collins et al., 2102.07078. Body and head are FedPer's: the encoder or its adapters, and all else or the output alone
(`head`). tau_h and tau_b together are the round's steps, parted by `head_share`. The paper gives the head many more
steps than the body, for its head is one small layer that is cheap to fit; half is the default for a decoder of
millions of weights.

Where popular code deviates: PFLlib trains the head for a single pass by default, where the paper takes many.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sammit.errors import UserError
from sammit.learning.loop import fit
from sammit.methods import base
from sammit.methods.base import Judged, Outcome, Which, Work
from sammit.methods.heads import Head, in_head, need_both
from sammit.methods.stages import first_steps
from sammit.methods.state import with_prefix

PAPER = "Collins et al. 2021 (2102.07078)"
TRAVELS = "the encoder, or its adapters; with head = output most of the decoder too"
STAYS = "the mask decoder (head = decoder), or its hypernetworks, detail and mixer (head = output)"


@dataclass(frozen=True)
class Options(base.Options):
    """`[method]` of fedrep."""

    head: Head = "decoder"  # what stays: all outside the encoder, or hypernetworks, detail and mixer
    head_share: float = 0.5  # of a round's steps; both parts get one where there are two

    def check(self) -> None:
        """Raise UserError where a value cannot be right."""
        if not 0 <= self.head_share <= 1:
            raise UserError("method.head_share: must be between 0 and 1")


class Method(base.Method):
    """Two phases of a round."""

    judged: ClassVar[tuple[Which, ...]] = ("personal",)
    reported: ClassVar[Which] = "personal"
    unseen: ClassVar[tuple[Judged, ...]] = ("experts", "sources")
    unseen_rule: ClassVar[str] = (
        "the shared body with the mean of the sites' heads; beside it the mean score of their own models"
    )
    options: Options

    def __init__(self, options: Options | None = None) -> None:
        super().__init__(options or Options())
        self.options.check()

    def shares(self, name: str) -> bool:
        """All but the head."""
        return not in_head(name, self.options.head)

    def train(self, work: Work) -> Outcome:
        """The head on the received body, then the body under that head; together the round's steps."""
        names = {part: [n for n in work.live if self.shares(n) == (part == "body")] for part in ("head", "body")}
        need_both(names["body"], names["head"])
        head_steps = first_steps(work.steps, self.options.head_share)
        head = work.trainer(names["head"], head_steps, work.kept_moments())
        body = work.trainer(names["body"], work.steps - head_steps, work.kept_moments())
        for part, trainer in (("head", head), ("body", body)):
            fit(trainer, work.batches(trainer.steps, part), self.objective(work))
        private = {}
        if work.training.optimiser_state == "keep":
            private = with_prefix("optimiser", head.optimiser_state() | body.optimiser_state())
        done = head.done + body.done
        return Outcome(private, {}, {"loss": float(head.total + body.total) / max(1, done), "steps": done})
