"""DRFLM: the sites that fare worst weigh most, and images are mixed to bear noisy labels.

    min_w max_{q in simplex} sum_k q_k F_k^mix(w)

    site     l_k = loss of w^t on mixed images, before training;   w_k <- argmin F_k^mix from w^t
             F^mix: x~ = lam x + (1 - lam) x',   lam L(f(x~), y) + (1 - lam) L(f(x~), y'),   lam ~ Beta(c, c) a batch
    server   w^{t+1} = sum_k p_k w_k,   p_k = (1 - eps) q_k + eps / K,   then q_k <- q_k exp(gamma l_k) / sum_j ...

Wu et al., 2204.07742, in its style: of the paper its abstract was at hand. It draws sites from q; here every site takes
part in every round and q weighs its tensors, which needs no draw. q starts uniform, so that sites count alike, whatever
their sizes; eps keeps any of them from being lost. A silent site keeps its share of q. The loss is measured on
`loss_batches` batches a round, which costs as many forward passes. x' is the same batch in another order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from math import exp
from typing import ClassVar

import torch
from torch import Tensor

from sammit.config import Experiment
from sammit.errors import UserError
from sammit.learning.loop import Objective
from sammit.methods import base
from sammit.methods.base import Outcome, Server, Work
from sammit.methods.state import equal_shares, with_prefix, without_prefix
from sammit.randomness import generator
from sammit.vocabulary import Batch, Declared, State, Update

PAPER = "Wu et al. 2022 (2204.07742), in its style"
TRAVELS = "every trained tensor, and the site's loss"
STAYS = "nothing but the optimiser's moments, where they are kept"


@dataclass(frozen=True)
class Options(base.Options):
    """`[method]` of drflm."""

    mixup: float = 0.2  # c; 0: images are not mixed
    rate: float = 0.1  # gamma, how fast q follows the losses; 0: all sites weigh the same
    floor: float = 0.1  # eps
    loss_batches: int = 2  # batches on which the received model's loss is measured

    def check(self) -> None:
        """Raise UserError where a value cannot be right."""
        if not (self.mixup >= 0 and self.rate >= 0):
            raise UserError("method: mixup and rate must be 0 or more")
        if not 0 <= self.floor <= 1 or self.loss_batches < 1:
            raise UserError("method: floor must be between 0 and 1, loss_batches at least 1")


class Method(base.Method):
    """FedAvg on mixed images, weighted by a distribution that follows the sites' losses."""

    extras_up: ClassVar[tuple[Declared, ...]] = (
        Declared("received_loss", (), "float32", "mean loss of the received model on some training batches"),
    )
    server_state: ClassVar[tuple[Declared, ...]] = (
        Declared("q.", (), "float64", "the distribution over sites, by the site's name"),
    )
    options: Options

    def __init__(self, options: Options | None = None) -> None:
        super().__init__(options or Options())
        self.options.check()

    def plan(self, experiment: Experiment, surveys: Mapping[str, State]) -> tuple[Experiment, State]:
        """The experiment as it is; one survey for each site names them, empty as it is."""
        return experiment, with_prefix("q", equal_shares(surveys))

    def notes(self) -> tuple[str, ...]:
        """That sites do not weigh by their size."""
        return ("DRFLM weighs sites by their losses, not by their numbers of images; it is in the style of its paper.",)

    def train(self, work: Work) -> Outcome:
        """The received model's loss, then FedAvg's steps on mixed images."""
        before = self._loss(work)
        trainer = work.trainer(work.live, work.steps, work.kept_moments())
        for step, batch in enumerate(work.batches(work.steps, "train")):
            trainer.step(batch, self._mixed(work, "train", step))
        private: State = {}
        if work.training.optimiser_state == "keep":
            private = with_prefix("optimiser", trainer.optimiser_state())
        metrics = {"loss": trainer.mean_loss, "steps": trainer.done}
        return Outcome(private, {"received_loss": before}, metrics)

    def aggregate(self, server: Server, updates: Iterable[Update]) -> Server:
        """The mean by p, then the next q."""
        losses: dict[str, float] = {}

        def heard() -> Iterator[Update]:
            for update in updates:
                losses[update.site] = float(update.extras["received_loss"])
                yield update

        mean = super().aggregate(server, heard())
        q = {site: float(share) for site, share in without_prefix("q", server.memory).items()}
        risen = next_shares(q, losses, self.options.rate)
        told = {f"q.{site}": share for site, share in risen.items()}
        memory = {name: torch.tensor(share, dtype=torch.float64) for name, share in told.items()}
        return replace(mean, memory=memory, metrics={**mean.metrics, **told})

    def weight(self, server: Server, update: Update) -> float:
        """p_k = (1 - eps) q_k + eps / K."""
        q = without_prefix("q", server.memory)
        return (1 - self.options.floor) * float(q[update.site]) + self.options.floor / len(q)

    @torch.no_grad()
    def _loss(self, work: Work) -> Tensor:
        """() mean loss of the model as it is, on mixed images."""
        device = work.training.device
        batches = enumerate(work.batches(self.options.loss_batches, "received"))
        losses = [self._mixed(work, "received", step)(batch.to(device)) for step, batch in batches]
        return torch.stack(losses).mean().float().cpu()

    def _mixed(self, work: Work, stage: str, step: int) -> Objective:
        """The loss of a batch of which each image is mixed with another; the draw is keyed by the step."""
        if not self.options.mixup:
            return self.objective(work)

        def objective(batch: Batch) -> Tensor:
            draw = generator(work.seed, work.site.name, work.order.round, "mixup", stage, step)
            share = float(draw.beta(self.options.mixup, self.options.mixup))
            order = torch.from_numpy(draw.permutation(len(batch.images))).to(batch.images.device)
            other = Batch(batch.images[order], batch.truth[order], batch.valid[order])
            logits = work.model(share * batch.images + (1 - share) * other.images)
            first, second = (self.segmentation(work, logits, truth) for truth in (batch, other))
            return share * first + (1 - share) * second

        return objective


def next_shares(q: Mapping[str, float], losses: Mapping[str, float], rate: float) -> dict[str, float]:
    """q_k exp(gamma l_k), scaled so that the sites that were heard keep their sum; the others keep their shares."""
    if not losses:
        return dict(q)
    top = max(losses.values())  # taken off all: the same q, without an overflow
    risen = {site: q[site] * exp(rate * (loss - top)) for site, loss in losses.items()}
    scale = sum(q[site] for site in losses) / sum(risen.values())
    return {site: scale * risen[site] if site in risen else share for site, share in q.items()}
