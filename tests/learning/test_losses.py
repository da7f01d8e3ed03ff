"""Losses against independent formulas, and their blindness to unlabelled pixels."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import Bernoulli, kl_divergence

from learning.conftest import some_batch
from sammit.learning.losses import SMOOTHING, distillation_loss, masked_mean, segmentation_loss, soft_dice
from sammit.vocabulary import Batch


def random_logits(seed: int, size: int, structures: int = 2, spread: float = 3.0) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(2, structures, size, size, generator=draw) * spread


def one_pixel(logit: float, truth: float, valid: float = 1.0) -> tuple[Tensor, Batch]:
    batch = Batch(torch.zeros(1, 3, 1, 1), torch.full((1, 1, 1, 1), truth), torch.full((1, 1, 1, 1), valid))
    return torch.full((1, 1, 1, 1), logit), batch


def test_one_pixel_by_hand() -> None:
    """logit 0: p = 1/2. Cross-entropy log 2; Dice 2 * 1/2 / (1/2 + 1) = 2/3."""
    logits, batch = one_pixel(0.0, 1.0)
    assert float(segmentation_loss(logits, batch, 0.0, 1.0)) == pytest.approx(math.log(2))
    assert float(segmentation_loss(logits, batch, 1.0, 0.0)) == pytest.approx(1 / 3, abs=1e-5)
    expected = 0.8 / 3 + 0.2 * math.log(2)
    assert float(segmentation_loss(logits, batch)) == pytest.approx(expected, abs=1e-5)
    assert float(segmentation_loss(logits, batch, 0.0, 1.0, pos_weight=5.0)) == pytest.approx(5 * math.log(2))


def test_pos_weight_leaves_background_alone() -> None:
    logits, batch = one_pixel(1.5, 0.0)
    plain, weighted = (segmentation_loss(logits, batch, 0.0, 1.0, pos_weight=w) for w in (1.0, 7.0))
    assert float(plain) == float(weighted) == pytest.approx(math.log1p(math.exp(1.5)))


@given(st.integers(0, 99), st.floats(0.5, 10))
def test_against_a_loop_over_pixels(seed: int, pos_weight: float) -> None:
    """Every valid pixel and structure in turn, in float64, from the definitions."""
    batch, logits = some_batch(seed, size=4), random_logits(seed, 4)
    bce, count, dice = 0.0, 0, []
    for c in range(2):
        overlap = total = 0.0
        for b in range(2):
            for y in range(4):
                for x in range(4):
                    if not batch.valid[b, 0, y, x]:
                        continue
                    p = 1 / (1 + math.exp(-float(logits[b, c, y, x])))
                    t = float(batch.truth[b, c, y, x])
                    bce -= pos_weight * t * math.log(p) + (1 - t) * math.log(1 - p)
                    count += 1
                    overlap, total = overlap + p * t, total + p + t
        dice.append((2 * overlap + SMOOTHING) / (total + SMOOTHING))
    expected = 0.7 * (1 - sum(dice) / 2) + 0.3 * bce / count
    found = segmentation_loss(logits, batch, 0.7, 0.3, pos_weight)
    assert float(found) == pytest.approx(expected, rel=1e-4)


@given(st.integers(0, 99), st.sampled_from([8, 4, 2]))
def test_unlabelled_pixels_change_nothing(seed: int, grid: int) -> None:
    """Whatever is written where a pixel is unlabelled: neither loss nor gradient move, at any stride of the logits."""
    batch, logits = some_batch(seed), random_logits(seed, grid).requires_grad_()
    noise = torch.rand(batch.truth.shape, generator=torch.Generator().manual_seed(seed + 1))
    other = replace(batch, truth=torch.where(batch.valid.bool(), batch.truth, noise))
    first, second = segmentation_loss(logits, batch), segmentation_loss(logits, other)
    assert float(first.detach()) == float(second.detach())
    (gradient,), (again,) = torch.autograd.grad(first, logits), torch.autograd.grad(second, logits)
    assert torch.equal(gradient, again)
    if grid == 8:
        assert not gradient[(batch.valid == 0).expand_as(gradient)].any()


@given(st.integers(0, 99))
def test_logits_at_unlabelled_pixels_change_nothing(seed: int) -> None:
    batch, logits, teacher = some_batch(seed), random_logits(seed, 8), random_logits(seed + 1, 8)
    other = torch.where(batch.valid.bool(), logits, logits.flip(0) * 5)
    assert torch.allclose(segmentation_loss(logits, batch), segmentation_loss(other, batch))
    assert torch.allclose(
        distillation_loss(logits, teacher, batch.valid, 2.0), distillation_loss(other, teacher, batch.valid, 2.0)
    )


def test_nothing_labelled_is_nothing_learned() -> None:
    batch = replace(some_batch(), valid=torch.zeros(2, 1, 8, 8))
    logits = random_logits(0, 8).requires_grad_()
    loss = segmentation_loss(logits, batch)
    assert float(loss.detach()) == 0.0
    assert not torch.autograd.grad(loss, logits)[0].any()


@pytest.mark.parametrize("stride", [2, 4])
def test_truth_is_brought_to_the_logits_grid(stride: int) -> None:
    """A constant truth is that constant on any grid, so the loss is the coarse one."""
    logits = random_logits(0, 8 // stride)
    for value in (0.0, 1.0):
        fine = Batch(torch.zeros(2, 3, 8, 8), torch.full((2, 2, 8, 8), value), torch.ones(2, 1, 8, 8))
        side = 8 // stride
        coarse = Batch(
            torch.zeros(2, 3, side, side), torch.full((2, 2, side, side), value), torch.ones(2, 1, side, side)
        )
        assert torch.allclose(segmentation_loss(logits, fine), segmentation_loss(logits, coarse), atol=1e-6)


def test_dice_pools_the_batch_and_keeps_structures_apart() -> None:
    """Structure 0: found 1 of 2 over both images -> 2 * 1 / (1 + 2); structure 1: nothing there, nothing found -> 1."""
    truth, found = torch.zeros(2, 2, 1, 2), torch.zeros(2, 2, 1, 2)
    truth[0, 0, 0, 0] = truth[1, 0, 0, 1] = found[0, 0, 0, 0] = 1
    assert soft_dice(found, truth).tolist() == pytest.approx([2 / 3, 1.0], abs=1e-5)


def test_masked_mean_by_hand() -> None:
    values = torch.tensor([[[[1.0, 2.0], [3.0, 40.0]], [[5.0, 6.0], [7.0, 80.0]]]])
    valid = torch.tensor([[[[1.0, 1.0], [1.0, 0.0]]]])
    assert float(masked_mean(values, valid)) == pytest.approx((1 + 2 + 3 + 5 + 6 + 7) / 6)
    assert float(masked_mean(values, valid * 0)) == 0.0


@given(st.integers(0, 99), st.floats(0.5, 8))
def test_distillation_is_torchs_bernoulli_divergence(seed: int, temperature: float) -> None:
    """T^2 times the mean over valid pixels of KL(teacher || student), from torch.distributions, in float64."""
    student, teacher, valid = random_logits(seed, 8), random_logits(seed + 1, 8), some_batch(seed).valid
    p, q = (Bernoulli(logits=z.double() / temperature) for z in (teacher, student))
    expected = temperature**2 * kl_divergence(p, q)[valid.bool().expand_as(student)].mean()
    assert float(distillation_loss(student, teacher, valid, temperature)) == pytest.approx(float(expected), rel=1e-4)


def test_distillation_by_hand() -> None:
    """Teacher 1/2, student 1/4 (logit -log 3), T = 1: 1/2 log 2 + 1/2 log(2/3)."""
    student, teacher = torch.full((1, 1, 1, 1), -math.log(3)), torch.zeros(1, 1, 1, 1)
    expected = 0.5 * math.log(2) + 0.5 * math.log(2 / 3)
    assert float(distillation_loss(student, teacher, torch.ones(1, 1, 1, 1), 1.0)) == pytest.approx(expected)


@given(st.integers(0, 99), st.floats(0.5, 8))
def test_distillation_is_zero_for_equals_and_never_below(seed: int, temperature: float) -> None:
    student, teacher, valid = random_logits(seed, 4), random_logits(seed + 1, 4), torch.ones(2, 1, 8, 8)
    assert float(distillation_loss(student, student.clone(), valid, temperature)) == 0.0
    assert float(distillation_loss(student, teacher, valid, temperature)) > 0.0


def test_distillation_does_not_grow_with_the_picture() -> None:
    """The mean over pixels: four times the pixels, the same loss."""
    student, teacher = random_logits(0, 4), random_logits(1, 4)
    small = distillation_loss(student, teacher, torch.ones(2, 1, 4, 4), 2.0)
    large = distillation_loss(student.repeat(1, 1, 2, 2), teacher.repeat(1, 1, 2, 2), torch.ones(2, 1, 8, 8), 2.0)
    assert torch.allclose(small, large)


def test_distillation_teaches_the_student_only() -> None:
    student, teacher = random_logits(0, 4).requires_grad_(), random_logits(1, 4).requires_grad_()
    distillation_loss(student, teacher, torch.ones(2, 1, 4, 4), 2.0).backward()  # type: ignore[no-untyped-call]
    assert teacher.grad is None
    assert student.grad is not None and student.grad.any()


@pytest.mark.parametrize("logit", [-1e4, -90.0, 90.0, 1e4])
def test_extreme_logits_stay_finite(logit: float) -> None:
    student = torch.full((1, 1, 2, 2), logit, requires_grad=True)
    batch = Batch(torch.zeros(1, 3, 2, 2), torch.full((1, 1, 2, 2), float(logit < 0)), torch.ones(1, 1, 2, 2))
    loss = segmentation_loss(student, batch) + distillation_loss(student, -student, batch.valid, 2.0)
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.isfinite()
    assert student.grad is not None and student.grad.isfinite().all()


def test_half_precision_logits_are_lifted() -> None:
    batch, logits = some_batch(), random_logits(0, 8).bfloat16()
    assert segmentation_loss(logits, batch).dtype == torch.float32
    assert torch.equal(segmentation_loss(logits, batch), segmentation_loss(logits.float(), batch))
    assert distillation_loss(logits, logits, batch.valid, 2.0).dtype == torch.float32
