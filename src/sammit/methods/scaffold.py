"""SCAFFOLD: control variates take the sites' drift out of their steps.

    site     step along g + c - c_k,     c_k^+ = c_k - c + (w^t - w_k) / (sum of the round's rates)
    server   w^{t+1} = w^t + eta 1 / |S| sum_{k in S} (w_k - w^t),     c <- c + 1 / K sum_{k in S} (c_k^+ - c_k)

Karimireddy et al., 1910.06378, option II; the paper's steps times rate is the sum of the rates under a schedule. All
controls start at zero, K counts all sites, S those that answered, and the means are plain, whatever the sites' sizes.
The step is taken on the loss plus <c - c_k, w - w^t>, whose gradient is g + c - c_k. Twice FedAvg's traffic: a control
goes each way.

Under plain SGD (momentum 0, no clipping) (w^t - w_k) / (sum of rates) is the mean of g + c - c_k, so that c_k^+ is the
mean gradient of the round. Under Adam it is the mean *normalised* step, about one in every number, however small the
gradient: the controls would then drown the gradients they correct. So `control = "gradients"`, the default, takes the
mean of the gradients themselves, c_k^+ = c_k - c + mean(g + c - c_k): under plain SGD at a constant rate the same, and
meant for any optimiser. `control = "steps"` is option II to the letter.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from sammit.config import Experiment, TrainingConfig
from sammit.errors import UserError
from sammit.learning.loop import Trainer
from sammit.methods import base
from sammit.methods.base import Outcome, Server, Work
from sammit.methods.state import WeightedMean, copied, difference, take, with_prefix, without_prefix, zeros
from sammit.vocabulary import AnyState, Batch, Declared, State, Update

PAPER = "Karimireddy et al. 2020 (1910.06378), option II"
TRAVELS = "every trained tensor, and a control variate of the same size each way"
STAYS = "c_k, the site's control variate"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Options(base.Options):
    """`[method]` of scaffold."""

    control: Literal["gradients", "steps"] = "gradients"  # what c_k is made of; steps: option II, for plain SGD
    lr: float = 1.0  # eta, the server's own; training.lr is the sites'

    def check(self) -> None:
        """Raise UserError where a value cannot be right."""
        if not self.lr > 0:
            raise UserError("method.lr: must be above 0")


class Method(base.Method):
    """A control at the server, one at each site, and a step corrected by their difference."""

    extras_up: ClassVar[tuple[Declared, ...]] = (
        Declared("control.", None, "float32", "change of the site's control variate, a mean gradient"),
    )
    extras_down: ClassVar[tuple[Declared, ...]] = (
        Declared("control.", None, "float32", "c, the mean of all sites' control variates"),
    )
    server_state: ClassVar[tuple[Declared, ...]] = (
        Declared("control.", None, "float32", "c, the mean of all sites' control variates"),
        Declared("sites", (), "int64", "K, also where some do not answer"),
    )
    site_state: ClassVar[tuple[Declared, ...]] = (
        *base.Method.site_state,
        Declared("control.", None, "float32", "c_k, this site's control variate, whose changes are sent"),
    )
    options: Options

    def __init__(self, options: Options | None = None) -> None:
        super().__init__(options or Options())
        self.options.check()

    def plan(self, experiment: Experiment, surveys: Mapping[str, State]) -> tuple[Experiment, State]:
        """The experiment as it is; one survey for each site counts them, empty as it is."""
        if self.options.control == "steps" and not _plain(experiment.training):
            log.warning("method.control = 'steps' is SCAFFOLD under plain SGD only; the header of scaffold.py says why")
        return experiment, {"sites": torch.tensor(len(surveys))}

    def notes(self) -> tuple[str, ...]:
        """What the controls are made of, which decides what the method is under another optimiser than plain SGD."""
        if self.options.control == "steps":
            return (
                "SCAFFOLD's controls are mean steps over the sum of the rates: mean gradients under plain SGD only.",
            )
        return ("SCAFFOLD's controls are means of the gradients that each site's steps were given.",)

    def orders(self, server: Server, site: str) -> tuple[AnyState, State]:
        """The shared tensors and c."""
        return server.shared, with_prefix("control", _control(server.memory, server.shared))

    def train(self, work: Work) -> Outcome:
        """Corrected steps; the change of c_k goes up, c_k stays."""
        start = copied(work.order.tensors)
        common, own = (_control(state, start) for state in (work.order.extras, work.private))
        trainer = work.trainer(work.live, work.steps, work.kept_moments())
        gradients = {name: torch.zeros_like(trainer.parameters[name]) for name in start}
        objective = self._corrected(work, difference(common, own))
        for batch in work.batches(work.steps, "train"):
            trainer.step(batch, objective)
            for name, total in gradients.items():
                total += _gradient(trainer, name)
        if self.options.control == "gradients":
            seen = {name: total / trainer.done for name, total in copied(gradients).items()}
        else:
            way = difference(start, take(work.model, start))
            seen = {name: moved / trainer.rate_sum(name) for name, moved in way.items()}
        change = difference(seen, common)
        private = with_prefix("control", {name: c + change[name] for name, c in own.items()})
        if work.training.optimiser_state == "keep":
            private |= with_prefix("optimiser", trainer.optimiser_state())
        metrics = {"loss": trainer.mean_loss, "steps": trainer.done}
        return Outcome(private, with_prefix("control", change), metrics)

    def aggregate(self, server: Server, updates: Iterable[Update]) -> Server:
        """A step along the plain mean change; c moves by the changes over K."""
        control, count = _control(server.memory, server.shared), int(server.memory["sites"])
        mean = WeightedMean()
        for update in updates:
            mean.add(update.tensors, 1)
            change = without_prefix("control", update.extras)
            control = {name: c + change[name] / count for name, c in control.items()}
        step = difference(mean.mean(), server.shared)
        shared = {name: server.shared[name] + self.options.lr * change for name, change in step.items()}
        return Server(shared or server.shared, {**server.memory, **with_prefix("control", control)})

    def _corrected(self, work: Work, bend: State) -> Callable[[Batch], Tensor]:
        """The loss plus <c - c_k, w - w^t>."""
        plain, now = self.objective(work), dict(work.model.named_parameters())
        bend = {name: tensor.to(now[name].device) for name, tensor in bend.items()}
        start = {name: now[name].detach().clone() for name in bend}

        def objective(batch: Batch) -> Tensor:
            bends = [(tensor * (now[name] - start[name])).sum() for name, tensor in bend.items()]
            return plain(batch) + torch.stack(bends).sum()

        return objective


def _control(state: State, like: AnyState) -> State:
    """The control variate in a state, zero where there is none yet."""
    return without_prefix("control", state) or zeros(like)


def _gradient(trainer: Trainer, name: str) -> Tensor:
    """What the last step was given for one tensor."""
    gradient = trainer.parameters[name].grad
    assert gradient is not None  # the bend alone gives every tensor one
    return gradient


def _plain(training: TrainingConfig) -> bool:
    """Whether a step is the rate times the gradient."""
    return training.optimiser == "sgd" and not (training.momentum or training.clip or training.weight_decay)
