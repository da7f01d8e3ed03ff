"""Ditto: federated averaging, and beside it at every site a second model that is pulled to the global one.

    w_k <- local training from w^t,     w^{t+1} = sum_k (n_k / n) w_k        as if there were no second model
    v_k <- argmin_v F_k(v) + lambda / 2 ||v - w^t||^2                        from its last value, v_k^0 = w^0

Li et al., 2012.04221. v is a copy of every trained tensor and never leaves; a site is judged with v. In the paper v
takes as many steps as w, which is twice the work of federated averaging. Methods are compared at equal steps, so a
round's steps are parted: `own_share` of them are v's. With half, w is federated averaging on half the steps, and a
recipe with twice the `local_steps` is the paper's.

The paper steps with plain SGD and picks lambda at each site by its validation samples, among 0.1, 1 and 2 where nobody
attacks; here it is one number for all sites. Where its code deviates: w and v step on the same batches there; here each
draws its own, so that the second model leaves no trace in what travels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sammit.errors import UserError
from sammit.learning.loop import fit
from sammit.methods import base
from sammit.methods.base import Outcome, Which, Work
from sammit.methods.proximal import pulled
from sammit.methods.second_model import SITE_STATE, kept, own_moments, travelling
from sammit.methods.stages import first_steps
from sammit.methods.state import put, take, without_prefix
from sammit.vocabulary import AnyState, Declared, State

PAPER = "Li et al. 2021 (2012.04221)"
TRAVELS = "every trained tensor of the global model"
STAYS = "a second model of the same size"


@dataclass(frozen=True)
class Options(base.Options):
    """`[method]` of ditto."""

    pull: float = 0.1  # lambda, of the second model to the global one; 0: trained alone
    own_share: float = 0.5  # of a round's steps that the second model takes; both get one where there are two

    def check(self) -> None:
        """Raise UserError where a value cannot be right."""
        if not self.pull >= 0:
            raise UserError("method.pull: must not be below 0")
        if not 0 <= self.own_share <= 1:
            raise UserError("method.own_share: must be between 0 and 1")


class Method(base.Method):
    """Both models in turn; what travels is federated averaging's."""

    judged: ClassVar[tuple[Which, ...]] = ("global", "personal")
    reported: ClassVar[Which] = "personal"
    site_state: ClassVar[tuple[Declared, ...]] = SITE_STATE
    options: Options

    def __init__(self, options: Options | None = None) -> None:
        super().__init__(options or Options())
        self.options.check()

    def train(self, work: Work) -> Outcome:
        """First w from the order's tensors, then v with its pull to them; w is left in the model to be sent."""
        received = travelling(work)
        steps = first_steps(work.steps, 1 - self.options.own_share)
        trainer = work.trainer(work.live, steps, work.kept_moments())
        fit(trainer, work.batches(steps, "train"), self.objective(work))
        trained = take(work.model, work.live)
        put(work.model, without_prefix("own", work.private) or received)
        own = work.trainer(work.live, work.steps - steps, own_moments(work))
        objective = pulled(self.objective(work), work.model, received, self.options.pull)
        fit(own, work.batches(own.steps, "own"), objective)
        private = kept(work, take(work.model, work.live), trainer, own)
        put(work.model, trained)
        done = trainer.done + own.done
        return Outcome(private, {}, {"loss": float(trainer.total + own.total) / max(1, done), "steps": done})

    def personal(self, private: State, shared: AnyState) -> State:
        """The second model; the global one before it exists."""
        return without_prefix("own", private)
