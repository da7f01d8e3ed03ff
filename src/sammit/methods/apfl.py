"""APFL: a site's model is a mixture of a second model and the global one, its share learned.

    vbar = alpha v + (1 - alpha) w
    w <- w - eta grad F_k(w)                         v <- v - eta alpha grad F_k(vbar)      one step, one batch
    alpha <- clip(alpha - eta_alpha <v - w, grad F_k(vbar)>, 0, 1)                          once a round
    w^{t+1} = sum_k (n_k / n) w_k;      v_k and alpha_k stay

Deng et al., 2003.13461. Gradients of v and alpha are of F_k(vbar), both at the values before the step; alpha moves
with the first batch of a round, when v meets the new global model. v_k^0 = w^0. The paper's eta_alpha is the rate of
training, meant for plain SGD; here it is a rate of its own, since AdamW's are smaller by orders. AdamW also undoes the
factor alpha in the gradient of v, so that under it v and w take the same way in the first round and part when w is
averaged.

Every step is two forward and two backward passes: twice the time of federated averaging at equal steps.

Where popular code deviates: the authors' mixes the two models' outputs, and it takes the gradient of alpha from the
gradients of both models after their steps, plus a decay of 0.02 alpha. PFLlib trains v by itself and mixes it once, at
the end of the round, so that v is replaced by the mixture.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.func import functional_call

from sammit.errors import UserError
from sammit.learning.loop import Trainer
from sammit.methods import base
from sammit.methods.base import Outcome, Which, Work
from sammit.methods.mixing import Tensors, mixed
from sammit.methods.second_model import SITE_STATE, kept, own_moments, travelling
from sammit.methods.state import take, without_prefix
from sammit.vocabulary import AnyState, Batch, Declared, State

PAPER = "Deng et al. 2020 (2003.13461)"
TRAVELS = "every trained tensor of the global model"
STAYS = "a second model of the same size, and its share in the mixture"


@dataclass(frozen=True)
class Options(base.Options):
    """`[method]` of apfl."""

    alpha: float = 0.5  # share of the second model at first
    alpha_lr: float = 0.1  # rate of alpha, a step a round; 0: alpha stays

    def check(self) -> None:
        """Raise UserError where a value cannot be right."""
        if not 0 <= self.alpha <= 1:
            raise UserError("method.alpha: must be between 0 and 1")
        if not self.alpha_lr >= 0:
            raise UserError("method.alpha_lr: must not be below 0")


class Method(base.Method):
    """Both models on the same batches; what travels is federated averaging's."""

    judged: ClassVar[tuple[Which, ...]] = ("global", "personal")
    reported: ClassVar[Which] = "personal"
    site_state: ClassVar[tuple[Declared, ...]] = (
        *SITE_STATE,
        Declared("alpha", (), "float32", "share of the second model in this site's mixture"),
    )
    options: Options

    def __init__(self, options: Options | None = None) -> None:
        super().__init__(options or Options())
        self.options.check()

    def train(self, work: Work) -> Outcome:
        """A step of v, then one of w, on each batch: v's gradient is at the w before it."""
        received = travelling(work)
        second = Tensors(without_prefix("own", work.private) or received, work.model)
        trainer = work.trainer(work.live, work.steps, work.kept_moments())
        own = Trainer(second, work.live, work.training, work.order.round, work.steps, own_moments(work))
        alpha = self._alpha(work.private).to(work.training.device).requires_grad_()
        outer, inner = self.objective(work), self._mixed_objective(work, second, alpha)
        for index, batch in enumerate(work.batches(work.steps, "train")):
            own.step(batch, inner)
            if index == 0 and alpha.grad is not None:
                moved = alpha.detach() - self.options.alpha_lr * alpha.grad
                alpha = moved.clamp(0, 1)
                inner = self._mixed_objective(work, second, alpha)
            trainer.step(batch, outer)
        private = kept(work, take(second, work.live), trainer, own) | {"alpha": alpha.detach().cpu()}
        loss = float(trainer.total + own.total) / max(1, trainer.done + own.done)
        return Outcome(private, {}, {"loss": loss, "steps": trainer.done})

    def personal(self, private: State, shared: AnyState) -> State:
        """alpha v + (1 - alpha) w with the w that is given; w itself before there is a v."""
        own, alpha = without_prefix("own", private), self._alpha(private)
        return mixed({**without_prefix("personal", private), **shared}, own, dict.fromkeys(own, alpha))

    def _mixed_objective(self, work: Work, second: Tensors, alpha: Tensor) -> Callable[[Batch], Tensor]:
        """The recipe's loss of vbar; w is fixed in it."""
        now, own = dict(work.model.named_parameters()), dict(second.named_parameters())

        def objective(batch: Batch) -> Tensor:
            fixed = {name: now[name].detach() for name in own}
            both = mixed(fixed, own, dict.fromkeys(own, alpha))
            logits = functional_call(work.model, both, batch.inputs)
            return self.segmentation(work, logits, batch)

        return objective

    def _alpha(self, private: State) -> Tensor:
        """The site's own share, a scalar; the recipe's before its first round."""
        return private["alpha"].clone() if "alpha" in private else torch.tensor(self.options.alpha)
