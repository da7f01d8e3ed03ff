"""Pseudo labels from two teachers, kept where both are sure; FGASL's (2501.07378). Holds no method.

    p = (f(u; e) + f(u; w^t)) / 2,    y = 1[p >= 1/2],    kept where (H(f(u; e)) + H(f(u; w^t))) / 2 <= theta

e is a running average of the site's own weights, w^t what the site received, H the entropy of a sigmoid in nats: each
structure of a pixel is sure or not by itself.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid

from sammit.config import TrainingConfig
from sammit.geometry import area
from sammit.learning.losses import soft_dice
from sammit.methods.base import Work
from sammit.methods.state import without_prefix
from sammit.vocabulary import State

MOST = 1_000_000  # values that a quantile is taken of; of more, evenly spaced ones


class Teachers:
    """The two teachers of one round at a site, and the threshold.

    Attributes:
        received: w^t, by name.
        ema: e, which `follow` moves; the first round starts from w^t.
        threshold: theta, a scalar, which `learn_threshold` moves; 0 at first: nothing is sure enough.
        kept, seen: sums over the structures of unlabelled pixels: pseudo labels that counted, and all.
    """

    def __init__(self, work: Work) -> None:
        self._model = work.model
        device = {name: parameter.device for name, parameter in work.model.named_parameters()}
        own = without_prefix("ema", work.private) or work.order.tensors
        self.received: State = {name: tensor.to(device[name]) for name, tensor in work.order.tensors.items()}
        self.ema: State = {name: tensor.to(device[name], copy=True) for name, tensor in own.items()}
        self.threshold = work.private.get("threshold", torch.zeros(()))
        self.kept, self.seen = 0.0, 0

    @property
    def kept_share(self) -> float:
        """Share of the pseudo labels of this round that counted; 0 without any."""
        return self.kept / max(1, self.seen)

    @torch.no_grad()
    def labels(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, H, W) -> (B, C, h, w) pseudo labels and (B, C, h, w) whether each counts, 0 or 1."""
        logits = [functional_call(self._model, state, (images,)).float() for state in (self.ema, self.received)]
        probable = (logits[0].sigmoid() + logits[1].sigmoid()) / 2
        unsure = (entropy(logits[0]) + entropy(logits[1])) / 2
        kept = (unsure <= self.threshold.to(unsure.device)).float()
        self.kept, self.seen = self.kept + float(kept.sum()), self.seen + kept.numel()
        return (probable >= 0.5).float(), kept

    @torch.no_grad()
    def learn_threshold(self, logits: Tensor, valid: Tensor, quantile: float, decay: float) -> None:
        """theta <- decay theta + (1 - decay) times the quantile of the entropies of labelled pixels.

        Args:
            logits: (B, C, h, w) of the model that learns.
            valid: (B, 1, H, W); pixels of the grid that are labelled by half or more are taken.
        """
        labelled = area(valid, (logits.shape[-2], logits.shape[-1])) >= 0.5
        values = entropy(logits.detach())[labelled.expand_as(logits)]
        if values.numel():
            values = values[:: 1 + values.numel() // MOST]
            found = torch.quantile(values, quantile).cpu()
            self.threshold = decay * self.threshold + (1 - decay) * found

    @torch.no_grad()
    def follow(self, decay: float) -> None:
        """e <- decay e + (1 - decay) w, after a step."""
        own = dict(self._model.named_parameters())
        for name, average in self.ema.items():
            average.mul_(decay).add_(own[name], alpha=1 - decay)


def entropy(logits: Tensor) -> Tensor:
    """(...) logits -> (...) - p log p - (1 - p) log(1 - p), in nats, finite for any logits."""
    z = logits.float()
    return -(z.sigmoid() * logsigmoid(z) + (-z).sigmoid() * logsigmoid(-z))


def masked_loss(logits: Tensor, labels: Tensor, kept: Tensor, training: TrainingConfig) -> Tensor:
    """The recipe's Dice and cross-entropy where `kept` is 1; (B, C, h, w) each.

    The cross-entropy is a mean over all pixels, so that few pseudo labels weigh little.
    """
    z = logits.float()
    bce = binary_cross_entropy_with_logits(z, labels, pos_weight=z.new_tensor(training.pos_weight), reduction="none")
    dice = soft_dice(z.sigmoid() * kept, labels * kept).mean()
    return training.bce_weight * (bce * kept).mean() + training.dice_weight * (1 - dice)
