"""pFedSAM's terms in a site's round: who teaches whom and when, the pull, the balance, what is kept apart."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from methods.conftest import equal, noisy
from methods.pfedsam_bench import BLOCKS, HEAVY, LATE, after, first_batch, pfedsam
from sammit.learning.losses import distillation_loss
from sammit.methods.pfedsam_objectives import blocks_with_both, kd_weight, overlap
from sammit.methods.state import take, with_prefix

# Distillation


def test_a_student_that_equals_its_teacher_learns_nothing_from_it() -> None:
    """Experts at zero and phi as received: the distillation is 0, in loss and in gradient (plain steps show it)."""
    found = []
    for direction in ("none", "global_to_local"):
        b = pfedsam({"kd_direction": direction, "kd_weight": 100.0, "global_share": 0.0})
        training = replace(b.training, local_steps=1, optimiser="sgd", momentum=0.0, clip=0.0, lr=1.0)
        found.append(after(b, private={}, training=training))
    assert found[0][2].metrics == found[1][2].metrics
    assert all(torch.allclose(found[0][1][name], tensor, atol=1e-6) for name, tensor in found[1][1].items())


@pytest.mark.parametrize("teacher", ["received", "trained", "ema"])
def test_the_teacher_of_the_experts(teacher: str) -> None:
    """The local loss less the same without a teacher is lambda times the divergence, worked out from the models."""
    losses, temperature = [], 3.0
    for direction in ("none", "global_to_local"):
        b = pfedsam({"kd_direction": direction, "kd_teacher": teacher, "kd_temperature": temperature, **HEAVY})
        received, mine = noisy(b.start), noisy(take(b.model, b.personal), 1)
        averaged = noisy(b.start, 2)
        private = with_prefix("personal", mine) | with_prefix("ema", averaged)
        phi, _, outcome = after(b, shared=received, private=private, training=replace(b.training, local_steps=2))
        losses.append(outcome.metrics["local_loss"])
    states = {"received": received, "trained": phi}
    states["ema"] = {name: 0.9 * averaged[name] + 0.1 * received[name] for name in received}
    batch = first_batch("local")
    student = b.logits(phi | mine, "personal", batch.images)
    expected = distillation_loss(student, b.logits(states[teacher], "global", batch.images), batch.valid, temperature)
    assert float(expected) > 0
    assert losses[1] - losses[0] == pytest.approx(kd_weight(HEAVY["kd_weight"], LATE / 10) * float(expected), rel=1e-3)


def test_the_running_average_by_hand() -> None:
    """The first round starts at what was received; a later one adds a tenth of the new."""
    b = pfedsam({"kd_teacher": "ema", "ema_decay": 0.75})
    first, second = noisy(b.start, 1), noisy(b.start, 2)
    *_, outcome = after(b, shared=first, private={})
    name = b.shared[0]
    assert torch.allclose(outcome.private[f"ema.{name}"], first[name])
    *_, later = after(b, shared=second, private=outcome.private)
    assert torch.allclose(later.private[f"ema.{name}"], 0.75 * first[name] + 0.25 * second[name])


@pytest.mark.parametrize("direction", ["local_to_global", "mutual"])
def test_the_personal_model_can_teach_the_shared_part(direction: str) -> None:
    """The global loss less the same without a teacher is lambda times the divergence from f(phi^t, psi)."""
    losses = []
    for option in ("none", direction):
        b = pfedsam({"kd_direction": option, **HEAVY})
        received, mine = noisy(b.start), noisy(take(b.model, b.personal), 1)
        private = with_prefix("personal", mine)
        *_, outcome = after(b, shared=received, private=private, training=replace(b.training, local_steps=2))
        losses.append(outcome.metrics["global_loss"])
    batch = first_batch("global")
    student, teacher = (b.logits(received | mine, which, batch.images) for which in ("global", "personal"))
    expected = distillation_loss(student, teacher, batch.valid, 2.0)
    assert losses[1] - losses[0] == pytest.approx(kd_weight(HEAVY["kd_weight"], LATE / 10) * float(expected), rel=1e-3)


def test_after_the_local_stage_the_trained_experts_teach() -> None:
    """In the order local, global the shared part has f(phi^t, psi) for a teacher, psi as the local stage left it."""
    losses = []
    for option in ("none", "local_to_global"):
        b = pfedsam({"kd_direction": option, "stage_order": "local_global", **HEAVY})
        received = noisy(b.start)
        _, trained, outcome = after(b, shared=received, training=replace(b.training, local_steps=2))
        losses.append(outcome.metrics["global_loss"])
    batch = first_batch("global")
    student, teacher = (b.logits(received | trained, which, batch.images) for which in ("global", "personal"))
    expected = distillation_loss(student, teacher, batch.valid, 2.0)
    assert losses[1] - losses[0] == pytest.approx(kd_weight(HEAVY["kd_weight"], LATE / 10) * float(expected), rel=1e-3)


@pytest.mark.parametrize(("schedule", "moves"), [("warm_cosine", False), ("constant", True)])
def test_the_schedule_of_the_first_round(schedule: str, moves: bool) -> None:
    """A rising lambda is zero in round 0; a constant one is not."""
    found = [
        after(pfedsam({"kd_direction": direction, "kd_schedule": schedule, "kd_weight": 100.0}), None, 0)[1]
        for direction in ("none", "global_to_local")
    ]
    assert equal(*found) != moves


def test_which_direction_moves_which_part() -> None:
    """In the order local, global, so that a change of the shared part cannot reach the experts."""
    phi, psi = {}, {}
    for direction in ("none", "global_to_local", "local_to_global", "mutual"):
        phi[direction], psi[direction], _ = after(pfedsam({"kd_direction": direction, "stage_order": "local_global"}))
    assert equal(psi["none"], psi["local_to_global"]) and equal(psi["mutual"], psi["global_to_local"])
    assert not equal(psi["none"], psi["mutual"])
    assert not equal(phi["none"], phi["local_to_global"])


def test_without_distillation_its_weight_is_nothing() -> None:
    found = [after(pfedsam({"kd_direction": "none", "kd_weight": weight}))[1] for weight in (0.0, 9.0)]
    assert equal(*found)


# The other terms


def test_the_pull_to_what_was_received_by_hand() -> None:
    """Plain steps: the second is longer by -lr mu (w_1 - w_0) with the pull than without it."""
    plain: dict[str, Any] = {"optimiser": "sgd", "momentum": 0.0, "clip": 0.0, "schedule": "constant", "lr": 0.01}
    states = {}
    for mu, steps in ((0.0, 1), (0.0, 2), (500.0, 2)):
        b = pfedsam({"prox_weight": mu, "global_share": 1.0, "kd_direction": "none"})
        states[mu, steps] = after(b, training=replace(b.training, local_steps=steps, **plain))[0]
    received = noisy(b.start)
    moved = 0.0
    for name, without in states[0.0, 2].items():
        pull = 0.01 * 500.0 * (states[0.0, 1][name] - received[name])
        assert torch.allclose(states[500.0, 2][name], without - pull, atol=1e-6), name
        moved = max(moved, float(pull.abs().max()))
    assert moved > 1e-4


def test_the_experts_are_kept_apart_from_what_is_shared() -> None:
    """The local loss less the same without it is gamma times the overlap; the global stage does not know it."""
    found = []
    for gamma in (0.0, 1000.0):
        b = pfedsam({"orth_weight": gamma, "kd_direction": "none"})
        mine, training = noisy(take(b.model, b.personal), 1), replace(b.training, local_steps=2)
        found.append(after(b, private=with_prefix("personal", mine), training=training))
    (phi, _, without), (same, psi, with_it) = found
    assert equal(phi, same) and without.metrics["global_loss"] == with_it.metrics["global_loss"]
    blocks = blocks_with_both([*phi, *mine])
    expected = float(overlap(phi | mine, blocks))
    assert len(blocks) == BLOCKS and expected > 1e-3
    assert with_it.metrics["local_loss"] - without.metrics["local_loss"] == pytest.approx(1000 * expected, rel=1e-3)
    assert float(overlap(phi | psi, blocks)) < expected, "a step on it makes room"


def test_blocks_without_experts_have_nothing_to_keep_apart() -> None:
    b = pfedsam({"orth_weight": 0.1}, options={"mixture": {"blocks": "last_half"}})
    assert [experts for _, experts in blocks_with_both(n for n, _ in b.model.named_parameters())] == [
        f"vision_encoder.layers.{i}.adapters.mixture.down" for i in (2, 3)
    ]
    assert {int(name.split(".")[2]) for name in b.personal} == {2, 3}


@pytest.mark.parametrize("top_k", [0, 1, 2])
def test_balance_counts_where_routing_is_sparse(top_k: int) -> None:
    """The local loss less the same without it is beta times the routers' sum; with dense routing nothing."""
    losses = []
    for beta in (0.0, 0.5):
        b = pfedsam(
            {"balance_weight": beta, "global_share": 0.0, "kd_direction": "none"}, options={"mixture": {"top_k": top_k}}
        )
        mine = noisy(take(b.model, b.personal), 1)
        training = replace(b.training, local_steps=1)
        *_, outcome = after(b, private=with_prefix("personal", mine), training=training)
        losses.append(outcome.metrics["local_loss"])
    b.logits(noisy(b.start) | mine, "personal", first_batch("local").images)
    routers = [m for m in b.model.modules() if hasattr(m, "balance")]
    expected = 0.5 * sum(float(router.balance) for router in routers) if top_k else 0.0  # type: ignore[arg-type]
    assert len(routers) == BLOCKS
    assert losses[1] - losses[0] == pytest.approx(expected, rel=1e-4, abs=1e-7)
    assert (expected > 0) == (top_k > 0)
