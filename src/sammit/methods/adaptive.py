"""A mixture of a site's own and the new model, weighed element by element; holds no method.

    theta_k <- theta_k + (w^t - theta_k) * W_k         higher layers; all others <- w^t
    W_k <- clip(W_k - eta g * (w^t - theta_k), 0, 1)   learned first, g the gradient of the loss at the mixture

FedALA's (Zhang et al., 2212.01197). W is 1 at first, which is the new model, and goes on from round to round. It is
learned in passes over `data_share` of the training samples: one before a round, the first time until the losses of the
last ten passes deviate by less than `settled`, at most `most_passes`. There is nothing to mix in the first round.

A site keeps its own higher layers ("own.NAME") and W ("weights.NAME"). Learning W is no optimiser step of the model;
its cost is a forward and a backward pass through the higher layers for each batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import ceil
from statistics import pstdev

import torch
from torch import Tensor
from torch.func import functional_call

from sammit.errors import UserError
from sammit.learning.loop import Trainer
from sammit.methods import base
from sammit.methods.base import Outcome, Work
from sammit.methods.mixing import Tensors, mixed
from sammit.methods.state import select, take, with_prefix, without_prefix
from sammit.vocabulary import AnyState, Batch, Declared, State

Loss = Callable[[Tensor, Batch], Tensor]
"""(B, C, h, w) logits and their batch -> scalar."""

KEPT = (
    Declared("own.", None, "float32", "this site's higher layers, as it sent them last"),
    Declared("weights.", None, "float32", "share of the global model in each of their elements"),
)
"""What a site keeps for its mixture."""

NOTE = "After the last aggregation each site learned its mixing weights once more, and trained nothing."
"""What a reader of the scores must know."""

LOOK_BACK = 10  # passes whose losses must agree


@dataclass(frozen=True)
class Options(base.Options):
    """How the weights are learned; a method's `[method]` has these beside its own."""

    eta: float = 1.0  # rate of the weights
    data_share: float = 0.8  # of the training samples, to learn the weights on
    settled: float = 0.1  # deviation of ten losses that ends the first learning
    most_passes: int = 20  # of the first learning

    def check(self) -> None:
        """Raise UserError where a value cannot be right."""
        if not self.eta > 0 or not self.settled > 0:
            raise UserError("method: eta and settled must be above 0")
        if not 0 < self.data_share <= 1:
            raise UserError("method.data_share: must be above 0, and at most 1")
        if self.most_passes < 1:
            raise UserError("method.most_passes: must be at least 1")


def mixture(private: State, weights: State, shared: AnyState) -> State:
    """Personal tensors and mixed higher layers; without weights these are the global model's."""
    return {**without_prefix("personal", private), **mixed(without_prefix("own", private), shared, weights)}


def kept(own: State, weights: State) -> State:
    """A site's higher layers and weights as it keeps them."""
    return with_prefix("own", own) | with_prefix("weights", weights)


def learned(work: Work, options: Options, loss: Loss) -> tuple[State, float]:
    """The weights for the model that was sent, and the last pass's loss; none before the site has layers to mix."""
    own, before = without_prefix("own", work.private), without_prefix("weights", work.private)
    if not own:
        return {}, 0.0
    work.model.requires_grad_(False)  # no gradient but that of the weights
    weights = Tensors(before or {name: torch.ones_like(tensor) for name, tensor in own.items()}, work.model)
    objective, losses = _of_weights(work, own, weights, loss), list[float]()
    most = 1 if before else options.most_passes
    while len(losses) < most and not _settled(losses, options.settled):
        losses.append(_pass(work, options, weights, objective, f"weights {len(losses)}"))
    return take(weights, own), losses[-1]


def learned_last(work: Work, options: Options, loss: Loss) -> Outcome | None:
    """After the last round: the weights once more, for the model that the run leaves; no tensor of it is trained."""
    weights, last = learned(work, options, loss)
    if not weights:
        return None
    before = select(work.private, lambda name: not name.startswith("personal."))  # the worker adds those
    return Outcome(before | with_prefix("weights", weights), {}, {"loss": last, "steps": 0})


def _of_weights(work: Work, own: State, weights: Tensors, loss: Loss) -> Callable[[Batch], Tensor]:
    """The loss of the mixture as a function of its weights."""
    device = {name: weight.device for name, weight in weights.named_parameters()}
    mine, sent = ({name: state[name].to(device[name]) for name in own} for state in (own, work.order.tensors))

    def objective(batch: Batch) -> Tensor:
        both = mixed(mine, sent, dict(weights.named_parameters()))
        return loss(functional_call(work.model, both, batch.inputs), batch)

    return objective


def _pass(work: Work, options: Options, weights: Tensors, objective: Callable[[Batch], Tensor], stage: str) -> float:
    """Plain steps on the weights over a share of the samples, clipped after each; the mean loss."""
    plain = replace(
        work.training,
        optimiser="sgd", lr=options.eta, adapter_lr=0.0, momentum=0.0, weight_decay=0.0, clip=0.0,
        schedule="constant", warmup=0.0,
    )  # fmt: skip
    steps = ceil(options.data_share * work.site.samples("train") / work.training.batch_size)
    trainer = Trainer(weights, dict(weights.named_parameters()), plain, 0, steps)
    for batch in work.batches(steps, stage):
        trainer.step(batch, objective)
        with torch.no_grad():
            for weight in weights.parameters():
                weight.clamp_(0, 1)
    return trainer.mean_loss


def _settled(losses: list[float], bound: float) -> bool:
    """Whether the last ten passes agree."""
    return len(losses) >= LOOK_BACK and pstdev(losses[-LOOK_BACK:]) < bound
