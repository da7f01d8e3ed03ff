"""What training minimises: a segmentation loss and a distillation loss, both blind to unlabelled pixels."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid

from sammit.geometry import area
from sammit.vocabulary import Batch

SMOOTHING = 1e-5


def segmentation_loss(
    logits: Tensor, batch: Batch, dice_weight: float = 0.8, bce_weight: float = 0.2, pos_weight: float = 1.0
) -> Tensor:
    """dice_weight * soft Dice + bce_weight * binary cross-entropy, in float32.

    Args:
        logits: (B, C, h, w) at any stride; truth and validity are averaged to it, truth over labelled pixels only.
        batch: truth (B, C, H, W) and validity (B, 1, H, W).
        dice_weight: weight of 1 - Dice, the mean over structures of Dice over the batch's valid pixels.
        bce_weight: weight of the cross-entropy, the mean over valid pixels and structures.
        pos_weight: weight of foreground pixels in the cross-entropy.
    """
    logits = logits.float()
    shape = (logits.shape[-2], logits.shape[-1])
    valid = area(batch.valid, shape)
    truth = area(batch.truth * batch.valid, shape) / valid.clamp_min(1e-6)
    loss = logits.new_zeros(())
    if bce_weight:
        weight = logits.new_tensor(pos_weight)
        bce = binary_cross_entropy_with_logits(logits, truth, pos_weight=weight, reduction="none")
        loss = loss + bce_weight * masked_mean(bce, valid)
    if dice_weight:
        loss = loss + dice_weight * (1 - soft_dice(logits.sigmoid() * valid, truth * valid).mean())
    return loss


def soft_dice(probabilities: Tensor, truth: Tensor) -> Tensor:
    """(B, C, h, w) each -> (C,) Dice over the whole batch, smoothed by 1e-5."""
    overlap = (probabilities * truth).sum((0, 2, 3))
    total = probabilities.sum((0, 2, 3)) + truth.sum((0, 2, 3))
    return (2 * overlap + SMOOTHING) / (total + SMOOTHING)


def masked_mean(values: Tensor, valid: Tensor) -> Tensor:
    """Mean of (B, C, h, w) values where (B, 1, h, w) is 1; 0 where nothing is."""
    return (values * valid).sum() / (valid.sum() * values.shape[1]).clamp_min(1)


def distillation_loss(student: Tensor, teacher: Tensor, valid: Tensor, temperature: float) -> Tensor:
    """Kullback-Leibler divergence of each pixel's tempered Bernoulli, teacher from student, averaged over pixels.

        T^2 mean[ p log(p / q) + (1 - p) log((1 - p) / (1 - q)) ],    p = sigmoid(z_teacher / T), q likewise

    Computed in logit space, so that it is finite for any logits; the mean, not a sum over pixels (batchmean would
    multiply it by C H W).

    Args:
        student, teacher: (B, C, h, w) logits; no gradient reaches the teacher.
        valid: (B, 1, H, W); padding outside the image teaches nothing.
        temperature: T, above 0.
    """
    z_t, z_s = teacher.detach().float() / temperature, student.float() / temperature
    p = z_t.sigmoid()
    divergence = p * (logsigmoid(z_t) - logsigmoid(z_s)) + (1 - p) * (logsigmoid(-z_t) - logsigmoid(-z_s))
    return temperature**2 * masked_mean(divergence, area(valid, (z_s.shape[-2], z_s.shape[-1])))
