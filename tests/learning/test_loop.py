"""The schedule by hand, and a trainer that touches what it was given and nothing else."""

from __future__ import annotations

from dataclasses import replace
from math import cos, pi, sqrt
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from learning.conftest import Small, some_batch
from sammit.config import TrainingConfig
from sammit.learning.loop import Trainer, fit, schedule_factor, steps_in_round
from sammit.vocabulary import State

PLAIN = TrainingConfig(rounds=4, lr=0.05, schedule="constant", warmup=0.0, clip=0.0, weight_decay=0.0)
NAMES = tuple(name for name, _ in Small().named_parameters())


def tensors(model: torch.nn.Module) -> State:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


@pytest.mark.parametrize(
    ("settings", "samples", "expected"),
    [
        ({"local_epochs": 1.0, "batch_size": 8}, 16, 2),
        ({"local_epochs": 1.0, "batch_size": 8}, 17, 3),
        ({"local_epochs": 2.0, "batch_size": 8}, 17, 6),
        ({"local_epochs": 0.5, "batch_size": 8}, 33, 2),  # half of five, rounded to even
        ({"local_epochs": 0.01, "batch_size": 8}, 17, 1),
        ({"local_epochs": 1.0, "batch_size": 8}, 1, 1),
        ({"local_steps": 7, "batch_size": 8}, 1000, 7),
    ],
)
def test_steps_in_a_round(settings: dict[str, Any], samples: int, expected: int) -> None:
    assert steps_in_round(TrainingConfig(**settings), samples) == expected


@pytest.mark.parametrize(
    ("schedule", "progress", "expected"),
    [
        ("constant", 0.05, 0.5),
        ("constant", 0.1, 1.0),
        ("constant", 0.9, 1.0),
        ("cosine", 0.05, 0.5),
        ("cosine", 0.1, 1.0),
        ("cosine", 0.55, 0.01 + 0.99 / 2),
        ("cosine", 0.325, 0.01 + 0.99 * 0.5 * (1 + sqrt(0.5))),  # a quarter of the way: cos(pi / 4)
        ("cosine", 1.0, 0.01),
        ("cosine", 1.3, 0.01),
        ("poly", 0.1, 1.0),
        ("poly", 0.55, 0.5**0.9),
        ("poly", 1.0, 0.0),
        ("poly", 1.3, 0.0),
    ],
)
def test_schedule_by_hand(schedule: Any, progress: float, expected: float) -> None:
    """A tenth of the run to warm up; beyond the end the rate stays where it ended."""
    training = TrainingConfig(schedule=schedule, warmup=0.1)
    assert schedule_factor(progress, training) == pytest.approx(expected, abs=1e-12)


@given(st.sampled_from(["cosine", "poly", "constant"]), st.floats(0, 0.9), st.floats(0, 1), st.floats(0, 1))
def test_schedule_rises_then_falls(schedule: Any, warmup: float, first: float, second: float) -> None:
    training = TrainingConfig(schedule=schedule, warmup=warmup)
    early, late = sorted((first, second))
    a, b = schedule_factor(early, training), schedule_factor(late, training)
    assert 0 <= a <= 1 and 0 <= b <= 1
    if late < warmup:
        assert a <= b
    if early >= warmup:
        assert a >= b


def test_rates_run_through_the_rounds() -> None:
    """Two rounds of two steps: progress 1/8, 3/8, 5/8, 7/8, whichever trainer takes them."""
    training = replace(PLAIN, rounds=2, schedule="cosine")
    rates = []
    for round_index in range(2):
        trainer = Trainer(model := Small(), NAMES, training, round_index, 2)
        for _ in range(2):
            trainer.step(some_batch(), model.objective)
            rates.append(trainer.optimiser.param_groups[0]["lr"])
    expected = [0.05 * (0.01 + 0.99 * 0.5 * (1 + cos(pi * p))) for p in (1 / 8, 3 / 8, 5 / 8, 7 / 8)]
    assert rates == pytest.approx(expected)


def test_a_step_of_plain_sgd_by_hand() -> None:
    model = Small()
    before = tensors(model)
    loss = model.objective(some_batch())
    gradients = dict(zip(NAMES, torch.autograd.grad(loss, list(model.parameters())), strict=True))
    trainer = Trainer(model, NAMES, replace(PLAIN, optimiser="sgd", momentum=0.0), 0, 1)
    trainer.step(some_batch(), model.objective)
    for name, tensor in tensors(model).items():
        assert torch.allclose(tensor, before[name] - 0.05 * gradients[name], atol=1e-7)
    assert trainer.mean_loss == pytest.approx(float(loss.detach()))
    assert trainer.optimiser_state() == {}


def test_rates_add_up() -> None:
    """Under plain SGD, what was moved over the sum of a tensor's rates is its mean gradient."""
    training = replace(PLAIN, optimiser="sgd", momentum=0.0, adapter_lr=0.5, schedule="poly", rounds=1)
    model = Small()
    trainer = Trainer(model, NAMES, training, 0, 4)
    before, slope = tensors(model), torch.tensor(2.0)

    def linear(batch: object) -> Tensor:
        return slope * torch.stack([p.sum() for p in model.parameters()]).sum()

    fit(trainer, [some_batch()] * 4, linear)
    factors = sum((1 - p) ** 0.9 for p in (1 / 8, 3 / 8, 5 / 8, 7 / 8))
    assert trainer.rate_sum("head.weight") == pytest.approx(0.05 * factors)
    assert trainer.rate_sum("body.adapters.low.weight") == pytest.approx(0.5 * factors)
    for name, tensor in tensors(model).items():
        mean_gradient = (before[name] - tensor) / trainer.rate_sum(name)
        assert torch.allclose(mean_gradient, slope, atol=1e-4)


@pytest.mark.parametrize("optimiser", ["adamw", "adam", "sgd"])
@pytest.mark.parametrize("names", [("head.weight",), ("body.weight", "body.bias"), NAMES])
def test_only_the_named_tensors_change(optimiser: Any, names: tuple[str, ...]) -> None:
    """Others stay bit for bit, even under weight decay, and get no gradient."""
    model = Small()
    before = tensors(model)
    trainer = Trainer(model, names, replace(PLAIN, optimiser=optimiser, weight_decay=0.1), 0, 2)
    fit(trainer, [some_batch(1), some_batch(2)], model.objective)
    changed = {name for name, tensor in tensors(model).items() if not torch.equal(tensor, before[name])}
    assert changed == set(names)
    assert {name for name, p in model.named_parameters() if p.grad is not None} == set(names)


def test_two_trainers_take_turns() -> None:
    """The gradient of one stage does not linger into the other's step."""
    model, alone = Small(), Small()
    head, body = (Trainer(model, names, PLAIN, 0, 2) for names in (("head.weight",), ("body.weight",)))
    head.step(some_batch(1), model.objective)
    between = tensors(model)
    body.step(some_batch(2), model.objective)
    assert torch.equal(tensors(model)["head.weight"], between["head.weight"])
    with torch.no_grad():
        for name, parameter in alone.named_parameters():
            parameter.copy_(between[name])
    Trainer(alone, ("body.weight",), PLAIN, 0, 2).step(some_batch(2), alone.objective)
    assert torch.equal(tensors(alone)["body.weight"], tensors(model)["body.weight"])


@pytest.mark.parametrize(
    "training",
    [
        replace(PLAIN, optimiser="adamw", weight_decay=0.1),
        replace(PLAIN, optimiser="adam", adapter_lr=0.2),
        replace(PLAIN, optimiser="sgd"),
        replace(PLAIN, optimiser="sgd", momentum=0.0),
    ],
    ids=["adamw", "adam", "sgd", "plain"],
)
def test_kept_moments_go_on_as_if_never_put_away(training: TrainingConfig) -> None:
    """Two trainers of three steps with the state carried over, against one of six: bit for bit."""
    whole, parts = Small(), Small()
    batches = [some_batch(seed) for seed in range(6)]
    fit(Trainer(whole, NAMES, training, 0, 6), batches, whole.objective)
    first = Trainer(parts, NAMES, training, 0, 3)
    fit(first, batches[:3], parts.objective)
    kept = first.optimiser_state()
    untouched = {key: value.clone() for key, value in kept.items()}
    second = Trainer(parts, NAMES, training, 1, 3, kept)
    fit(second, batches[3:], parts.objective)
    for name, tensor in tensors(whole).items():
        assert torch.equal(tensor, tensors(parts)[name]), name
    assert all(torch.equal(kept[key], untouched[key]) for key in kept)  # the state given is not trained on


def test_moments_have_names() -> None:
    model = Small()
    trainer = Trainer(model, ("head.weight",), PLAIN, 0, 1)
    assert trainer.optimiser_state() == {}
    trainer.step(some_batch(), model.objective)
    assert set(trainer.optimiser_state()) == {f"head.weight|{key}" for key in ("step", "exp_avg", "exp_avg_sq")}


def test_moments_of_a_tensor_that_is_no_longer_trained_are_left_out() -> None:
    model = Small()
    fit(first := Trainer(model, NAMES, PLAIN, 0, 1), [some_batch()], model.objective)
    second = Trainer(model, ("head.weight",), PLAIN, 1, 1, first.optimiser_state())
    assert {key.partition("|")[0] for key in second.optimiser_state()} == {"head.weight"}


@pytest.mark.parametrize(("clip", "length"), [(0.5, 0.5), (0.0, 3.0), (100.0, 3.0)])
def test_the_gradients_norm_is_bounded(clip: float, length: float) -> None:
    """A gradient of norm 3; the norm is that of all trained tensors together."""
    model = Small()
    weights = [model.head.bias, model.body.bias]
    training = replace(PLAIN, optimiser="sgd", momentum=0.0, lr=1.0, clip=clip)
    trainer = Trainer(model, ("head.bias", "body.bias"), training, 0, 1)
    before = tensors(model)
    slope = 3 / sqrt(sum(w.numel() for w in weights))
    trainer.step(some_batch(), lambda _: slope * torch.cat(weights).sum())
    moved = torch.cat([(tensors(model)[name] - before[name]).flatten() for name in ("head.bias", "body.bias")])
    assert float(moved.norm()) == pytest.approx(length, rel=1e-4)


def test_adapters_have_a_rate_of_their_own() -> None:
    """Adam's first step is as long as its rate."""
    for adapter_lr, expected in ((0.002, 0.002), (0.0, 0.05)):
        model = Small()
        before = tensors(model)
        trainer = Trainer(model, NAMES, replace(PLAIN, optimiser="adam", adapter_lr=adapter_lr), 0, 1)
        trainer.step(some_batch(), model.objective)
        step = {name: float((tensor - before[name]).abs().max()) for name, tensor in tensors(model).items()}
        assert step["body.adapters.low.weight"] == pytest.approx(expected, rel=1e-2)
        assert step["head.weight"] == pytest.approx(0.05, rel=1e-2)


def test_a_stage_of_no_steps_or_no_tensors() -> None:
    """What an option leaves out does nothing; a loss before the first step is 0."""
    model = Small()
    before = tensors(model)
    for trainer in (Trainer(model, NAMES, PLAIN, 0, 0), Trainer(model, (), PLAIN, 0, 0)):
        assert fit(trainer, [], model.objective) == 0.0
        assert trainer.done == 0 and trainer.optimiser_state() == {}
    assert all(torch.equal(tensor, before[name]) for name, tensor in tensors(model).items())


def test_bf16_autocast_keeps_tensors_in_fp32() -> None:
    model = Small()
    seen: list[torch.dtype] = []

    def objective(batch: Any) -> Tensor:
        seen.append(model(batch.images).dtype)
        return model.objective(batch)

    trainer = Trainer(model, NAMES, replace(PLAIN, precision="bf16"), 0, 1)
    trainer.step(some_batch(), objective)
    assert seen == [torch.bfloat16]
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert all(p.isfinite().all() for p in model.parameters())


def test_training_learns() -> None:
    model = Small()
    trainer = Trainer(model, NAMES, replace(PLAIN, rounds=1), 0, 60)
    batch = some_batch()
    before = float(model.objective(batch).detach())
    assert fit(trainer, [batch] * 60, model.objective) < before
    assert float(model.objective(batch).detach()) < 0.9 * before


@pytest.mark.gpu
def test_kept_moments_go_back_to_the_device() -> None:
    model = Small().cuda()
    training = replace(PLAIN, device="cuda")
    fit(first := Trainer(model, NAMES, training, 0, 1), [some_batch()], model.objective)
    kept = first.optimiser_state()
    assert {tensor.device.type for tensor in kept.values()} == {"cpu"}
    fit(Trainer(model, NAMES, training, 1, 1, kept), [some_batch()], model.objective)
    assert all(p.isfinite().all() for p in model.parameters())
