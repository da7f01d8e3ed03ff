"""FedDAT: both steps of a batch by hand, and what each of them may move."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from methods.conftest import Bench, Pictures, bench, equal, noisy, picture
from sammit.errors import UserError
from sammit.learning.losses import distillation_loss
from sammit.methods.base import Outcome
from sammit.methods.feddat import Method, Options
from sammit.methods.state import has_component, select, take, with_prefix
from sammit.randomness import key_to_seed
from sammit.vocabulary import Batch, State

PAIR = {"local_steps": 2}


def feddat(**options: Any) -> Bench:
    return bench("feddat", options, adapter=("bottleneck", "own_bottleneck"))


def after(b: Bench, **training: Any) -> tuple[State, State, Outcome]:
    """Shared and private tensors after a site's round from noisy ones, and the outcome."""
    private = with_prefix("personal", noisy(take(b.model, b.personal), 1))
    work = b.work(shared=noisy(b.start), private=private, training=replace(b.training, **training))
    outcome = b.method.train(work)
    return *b.method.split(work), outcome


def halves(b: Bench, student: Tensor, teacher: Tensor, batch: Batch, temperature: float) -> float:
    """(L + KL) / 2."""
    distance = distillation_loss(student, teacher, batch.valid, temperature)
    return float(b.method.segmentation(b.work(), student, batch) + distance) / 2


def test_the_private_adapters_alone_stay() -> None:
    b = feddat()
    assert b.personal and all(".own_bottleneck." in name for name in b.personal)
    assert any(".bottleneck." in name for name in b.shared) and any("mask_decoder." in name for name in b.shared)


def test_at_round_0_both_models_are_the_same() -> None:
    b, images = feddat(), picture(2, 0).images
    assert torch.equal(b.logits({}, "personal", images), b.logits({}, "global", images))


def test_the_personal_model_is_the_weighted_sum() -> None:
    """Two equal adapters of any weights are one of them; at weight 1 the shared one adds nothing."""
    b, images = feddat(), picture(2, 0).images
    shared = noisy(b.start)
    same = {n.replace(".bottleneck.", ".own_bottleneck."): t for n, t in shared.items() if ".bottleneck." in n}
    plain = b.logits({**shared, **same}, "global", images)
    assert torch.allclose(b.logits({**shared, **same}, "personal", images), plain, atol=1e-5)
    whole = feddat(own_weight=1.0)
    others = {n: 2 * t if ".bottleneck." in n else t for n, t in shared.items()}
    assert torch.allclose(whole.logits({**others, **same}, "personal", images), plain, atol=1e-5)


@pytest.mark.parametrize("temperature", [3.0, 1.0])
def test_one_batch_by_hand(temperature: float) -> None:
    """The shared step is taught by the combined model; the private one, beside A_2 as received, by what A_1 said."""
    b = feddat(kd_temperature=temperature)
    received, own = noisy(b.start), noisy(take(b.model, b.personal), 1)
    trained, personal, outcome = after(b, **PAIR)
    batch = picture(2, key_to_seed(0, "a", 0, "train", 0))
    global_logits = b.logits(received | own, "global", batch.images)
    first = halves(b, global_logits, b.logits(received | own, "personal", batch.images), batch, temperature)
    frozen = select(received, lambda name: has_component(name, "bottleneck"))
    combined = b.logits(trained | frozen | own, "personal", batch.images)  # the decoder has moved, A_2 has not
    second = halves(b, combined, global_logits, batch, temperature)
    assert outcome.metrics["loss"] == pytest.approx((first + second) / 2, rel=1e-5)
    assert not equal(trained, received) and not equal(personal, own)
    moved = b.logits(trained | own, "personal", batch.images)
    assert not torch.allclose(moved, combined, atol=1e-5), "A_2 that moved would be another model"


def test_the_distillation_counts() -> None:
    """Losses with and without it differ: the temperature alone changes what is learnt."""
    cold, warm = after(feddat(kd_temperature=1.0), **PAIR), after(feddat(kd_temperature=9.0), **PAIR)
    assert not equal(cold[0], warm[0]) and not equal(cold[1], warm[1])


@pytest.mark.parametrize(("steps", "batches", "own"), [(1, 1, 0), (2, 1, 1), (5, 3, 2)])
def test_two_steps_a_batch_and_the_odd_one_is_shared(steps: int, batches: int, own: int) -> None:
    b, site = feddat(), Pictures()
    work = b.work(site, training=replace(b.training, local_steps=steps))
    outcome = b.method.train(work)
    assert site.stages == ["train"] * batches and outcome.metrics["steps"] == steps
    counts = [tensor for name, tensor in outcome.private.items() if name.endswith("|step")]
    assert {float(count) for count in counts} == ({float(own)} if own else set())


def test_a_shared_step_alone_moves_nothing_private() -> None:
    b = feddat()
    own = noisy(take(b.model, b.personal), 1)
    shared, personal, _ = after(b, local_steps=1)
    assert equal(personal, own) and not equal(shared, noisy(b.start))


@pytest.mark.parametrize("kept", ["reset", "keep"])
def test_the_private_adapters_moments_are_always_kept(kept: Any) -> None:
    b = feddat()
    *_, outcome = after(b, optimiser_state=kept)
    assert f"optimiser.{b.personal[0]}|step" in outcome.private
    assert (f"optimiser.{b.shared[0]}|step" in outcome.private) == (kept == "keep")


def test_the_decoders_modes() -> None:
    for mode in ("full", "frozen", "local"):
        b = feddat(decoder=mode)
        outside = [[n for n in names if not n.startswith("vision_encoder.")] for names in (b.shared, b.personal)]
        assert [bool(names) for names in outside] == [mode == "full", mode == "local"]


@pytest.mark.parametrize(
    "options", [{"own_weight": -0.1}, {"own_weight": 1.1}, {"kd_temperature": 0.0}, {"kd_temperature": float("nan")}]
)
def test_options_that_cannot_be_right(options: dict[str, float]) -> None:
    with pytest.raises(UserError, match=rf"method.*{next(iter(options))}"):
        Method(Options(**options))  # type: ignore[arg-type]
