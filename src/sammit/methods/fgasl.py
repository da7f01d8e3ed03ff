"""FGASL: few labelled and many unlabelled images at every site; two teachers, and weights by a gap.

Deng et al., 2501.07378, for FedSemiDG. Half of every batch has labels. f is the network, w^t what was received, e_k a
running average of the site's own weights, u' an image strongly changed (learning/jitter.py), H a sigmoid's entropy:

    L = L_seg(f(x), y) + L_masked(f(u'), y_u) + 0.3 || h - h~ ||^2          x labelled, u not
    p_u = (f(u; e_k) + f(u; w^t)) / 2,    y_u = 1[p_u >= 1/2]
    a pixel of a structure is kept where (H(f(u; e_k)) + H(f(u; w^t))) / 2 <= theta
    theta <- 0.9 theta + 0.1 (quantile rho of H(f(x)) over labelled pixels),    0 at first; rho: 0.15 -> 0.30
    h, h~: the last features, from the encoder's embedding and from the same with channels dropped
    e_k <- 0.99 e_k + 0.01 w_k after every step

    server   w^{t+1} = sum_k a_k w_k
             a_k <- clip(a_k + 0.05 / 3 (1 - t / T) gap_k / max_j |gap_j|, 0, 1), renormalised
    gap_k    mean divergence of the received from the trained model's predictions on the site's own images

a is uniform at first, and a gap counts one round later, as in the published code. Where that is for softmax, structures
here are sigmoids: a pixel is kept for each structure by itself, as in its file for overlapping structures; entropy and
divergence have the background's half too, which its divergence for one class leaves out. The masked cross-entropy is a
mean over all pixels, as there. Dice and cross-entropy have the recipe's weights, there one each. Its U-Net drops
channels at every level; Segment Anything's decoder is given one embedding. Its images for the gap are as they are, here
they are training tiles, as many as there are images.

A step costs a second pass through the decoder and both teachers' passes on half of the batch; a round, two passes over
the images for the gap.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from math import ceil
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn.functional import mse_loss

from sammit.config import Experiment
from sammit.errors import UserError
from sammit.learning.jitter import strongly_changed
from sammit.learning.losses import distillation_loss
from sammit.methods import base
from sammit.methods.base import Outcome, Server, Work
from sammit.methods.features import ENCODER, LAST_FEATURES, decoded_twice, first_module, watched
from sammit.methods.pseudo_labels import Teachers, masked_loss
from sammit.methods.state import copied, equal_shares, with_prefix, without_prefix
from sammit.randomness import generator
from sammit.vocabulary import Batch, Declared, State, Update

if TYPE_CHECKING:
    import numpy as np

PAPER = "Deng et al. 2025 (2501.07378)"
TRAVELS = "every trained tensor, and a number: how far the trained model is from the received one"
STAYS = "a running average of the site's weights, the entropy below which a pseudo label counts"


@dataclass(frozen=True)
class Options(base.Options):
    """`[method]` of fgasl."""

    unlabelled_weight: float = 1.0  # of the loss on pseudo labels
    feature_weight: float = 0.3  # of the loss on features
    drop_rate: float = 0.3  # share of the embedding's channels that is dropped
    ema_decay: float = 0.99  # of the running average, a step
    threshold_decay: float = 0.9  # of theta, a step
    quantile_start: float = 0.15  # rho at the first step
    quantile_end: float = 0.30  # and at the last
    share_step: float = 0.05 / 3  # how far the largest gap moves a site's share in the first round

    def check(self) -> None:
        """Raise UserError where a value cannot be right."""
        if not all(value >= 0 for value in (self.unlabelled_weight, self.feature_weight, self.share_step)):
            raise UserError("method: unlabelled_weight, feature_weight and share_step must not be below 0")
        if not all(0 <= value < 1 for value in (self.drop_rate, self.ema_decay, self.threshold_decay)):
            raise UserError("method: drop_rate, ema_decay and threshold_decay must be in [0, 1)")
        if not all(0 <= value <= 1 for value in (self.quantile_start, self.quantile_end)):
            raise UserError("method: quantile_start and quantile_end must be in [0, 1]")


class Method(base.Method):
    """Both halves of FGASL."""

    unlabelled: ClassVar[bool] = True
    reports: ClassVar[Mapping[str, str]] = {
        **base.Method.reports,
        "kept": "share of the unlabelled images' pixels whose pseudo label counted",
    }
    extras_up: ClassVar[tuple[Declared, ...]] = (
        Declared("gap", (), "float32", "mean divergence of the received from the trained model on the site's images"),
    )
    server_state: ClassVar[tuple[Declared, ...]] = (
        Declared("share.", (), "float64", "weight of each site in the mean, by the site's name"),
        Declared("rounds", (), "int64", "rounds of the whole run"),
    )
    site_state: ClassVar[tuple[Declared, ...]] = (
        *base.Method.site_state,
        Declared("ema.", None, "float32", "running average of this site's weights, one of the two teachers"),
        Declared("threshold", (), "float32", "entropy up to which a pseudo label counts"),
    )
    options: Options

    def __init__(self, options: Options | None = None) -> None:
        super().__init__(options or Options())
        self.options.check()

    def plan(self, experiment: Experiment, surveys: Mapping[str, State]) -> tuple[Experiment, State]:
        """The experiment as it is; equal shares."""
        shares = with_prefix("share", equal_shares(surveys))
        return experiment, {**shares, "rounds": torch.tensor(experiment.training.rounds)}

    def notes(self) -> tuple[str, ...]:
        """That sites do not weigh by their size."""
        return ("FGASL weighs sites by how far their models go from the global one, not by their numbers of images.",)

    # At the site

    def train(self, work: Work) -> Outcome:
        """Steps on labelled and unlabelled images, then the gap."""
        trainer = work.trainer(work.live, work.steps, work.kept_moments())
        teachers = Teachers(work)
        for step, batch in enumerate(work.batches(work.steps, "train")):
            trainer.step(batch, self._objective(work, teachers, step))
            teachers.follow(self.options.ema_decay)
        private = with_prefix("ema", copied(teachers.ema)) | {"threshold": teachers.threshold.float().cpu()}
        if work.training.optimiser_state == "keep":
            private |= with_prefix("optimiser", trainer.optimiser_state())
        metrics = {"loss": trainer.mean_loss, "steps": trainer.done, "kept": teachers.kept_share}
        return Outcome(private, {"gap": gap(work)}, metrics)

    def _objective(self, work: Work, teachers: Teachers, step: int) -> Callable[[Batch], Tensor]:
        """L of the step's batch; its labelled items are those with any labelled pixel."""
        o, t = self.options, work.training
        rng = generator(work.seed, work.site.name, work.order.round, "strong", step)
        progress = (work.order.round + step / max(1, work.steps)) / t.rounds
        quantile = o.quantile_start + (o.quantile_end - o.quantile_start) * progress

        def objective(batch: Batch) -> Tensor:
            labelled = batch.valid.flatten(1).any(dim=1)
            images = batch.images.clone()
            if not labelled.all():
                images[~labelled] = strongly_changed(batch.images[~labelled], rng)
            logits, difference = self._seen_twice(work, images, rng)
            loss = o.feature_weight * difference
            if labelled.any():
                with_labels = Batch(images[labelled], batch.truth[labelled], batch.valid[labelled])
                loss = loss + self.segmentation(work, logits[labelled], with_labels)
                teachers.learn_threshold(logits[labelled], with_labels.valid, quantile, o.threshold_decay)
            if not labelled.all():
                pseudo, kept = teachers.labels(batch.images[~labelled])
                loss = loss + o.unlabelled_weight * masked_loss(logits[~labelled], pseudo, kept, t)
            return loss

        return objective

    def _seen_twice(self, work: Work, images: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Logits, and the mean squared difference of the last features once channels of the embedding are dropped."""
        if not self.options.feature_weight:
            return work.model(images), images.new_zeros(())
        encoder, last = first_module(work.model, (ENCODER,)), first_module(work.model, LAST_FEATURES)
        if encoder is None or last is None:
            raise UserError("method.feature_weight: needs a Segment Anything; for another model set it to 0")
        with watched(last) as seen, decoded_twice(work.model, rng, self.options.drop_rate):
            logits = work.model(images)
        plain, changed = seen[-1][1].chunk(2)
        return logits[: len(images)], mse_loss(plain, changed)

    # At the server

    def weight(self, server: Server, update: Update) -> float:
        """a_k as it was before this round's gaps."""
        return float(server.memory[f"share.{update.site}"])

    def aggregate(self, server: Server, updates: Iterable[Update]) -> Server:
        """The mean by the shares, then the next shares."""
        gaps: dict[str, float] = {}
        rounds: list[int] = []

        def heard() -> Iterator[Update]:
            for update in updates:
                gaps[update.site] = float(update.extras["gap"])
                rounds.append(update.round)
                yield update

        mean = super().aggregate(server, heard())
        shares = {site: float(share) for site, share in without_prefix("share", server.memory).items()}
        left = 1 - max(rounds, default=0) / int(server.memory["rounds"])
        moved = next_shares(shares, gaps, self.options.share_step * left)
        told = {f"share.{site}": share for site, share in moved.items()}
        memory = {name: torch.tensor(share, dtype=torch.float64) for name, share in told.items()}
        memory["rounds"] = server.memory["rounds"]
        return replace(mean, memory=memory, metrics={**mean.metrics, **told})


@torch.no_grad()
def gap(work: Work) -> Tensor:
    """() mean over pixels and structures of KL(received || trained) on as many training tiles as there are images."""
    device, total, count = work.training.device, 0.0, 0
    received = {name: tensor.to(device) for name, tensor in work.order.tensors.items()}
    for batch in work.batches(ceil(work.site.samples("train") / work.training.batch_size), "gap"):
        images = batch.images.to(device)
        before = functional_call(work.model, received, (images,))
        everywhere = torch.ones_like(before[:, :1])
        total += float(distillation_loss(work.model(images), before, everywhere, temperature=1.0))
        count += 1
    return torch.tensor(total / count)


def next_shares(shares: Mapping[str, float], gaps: Mapping[str, float], step: float) -> dict[str, float]:
    """clip(a_k + step gap_k / max_j |gap_j|, 0, 1), renormalised; a site without a gap is not moved.

    Args:
        shares: a, by site, all sites.
        gaps: by site, of those that answered.
        step: how far the largest gap moves a share.
    """
    largest = max((abs(found) for found in gaps.values()), default=0.0) or 1.0
    moved = {site: min(max(share + step * gaps.get(site, 0.0) / largest, 0.0), 1.0) for site, share in shares.items()}
    total = sum(moved.values())
    return {site: share / total for site, share in moved.items()}
