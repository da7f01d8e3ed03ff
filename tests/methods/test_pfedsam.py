"""pFedSAM: what stays and what travels, each stage, each option, on a Segment Anything of a million parameters."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from methods.conftest import Bench, Pictures, bench, equal, noisy, picture
from sammit.config import Experiment, MethodConfig, ModelConfig
from sammit.errors import UserError
from sammit.federation.guard import check_declared
from sammit.federation.messages import encode
from sammit.federation.prepare import make_method
from sammit.federation.scoring import SiteScores
from sammit.learning.losses import distillation_loss
from sammit.methods.base import Outcome, Server
from sammit.methods.pfedsam import Method, Options
from sammit.methods.pfedsam_objectives import blocks_with_both, kd_weight, overlap
from sammit.methods.stages import first_steps
from sammit.methods.state import fingerprint, put, take, with_prefix, without_prefix
from sammit.randomness import key_to_seed
from sammit.vocabulary import Order, State, Update

LATE = 5  # a round in which distillation has weight: kd_weight(0.5, 0.5)
HEAVY = {"kd_weight": 1e5}  # random models hardly differ; a heavy weight lifts the term over float32's steps
BLOCKS, WIDTH = 4, 96  # sam-tiny's


def pfedsam(options: dict[str, Any] | None = None, /, **model: Any) -> Bench:
    return bench("pfedsam", options, **model)


def after(
    b: Bench, site: Pictures | None = None, round_index: int = LATE, **given: Any
) -> tuple[State, State, Outcome]:
    """Shared and personal tensors after a site's round from noisy ones, so that no zero hides a term."""
    given.setdefault("shared", noisy(b.start))
    if "private" not in given:
        given["private"] = with_prefix("personal", noisy(take(b.model, b.personal), 1))
    work = b.work(site, round_index, **given)
    outcome = b.method.train(work)
    return *b.method.split(work), outcome


def first_batch(stage: str, round_index: int = LATE) -> Any:
    """What site "a" sees first in a stage."""
    return picture(2, key_to_seed(0, "a", round_index, stage, 0))


@torch.no_grad()
def logits(b: Bench, state: State, which: Any, images: Tensor) -> Tensor:
    put(b.model, state)
    b.method.use(b.model, which)
    result: Tensor = b.model(images)
    return result


# What stays and what travels


def test_at_round_0_the_personal_model_is_the_global_one() -> None:
    b = pfedsam()
    images = picture(2, 0).images
    assert torch.equal(logits(b, {}, "personal", images), logits(b, {}, "global", images))
    moved = noisy(take(b.model, b.personal))
    assert not torch.equal(logits(b, moved, "personal", images), logits(b, moved, "global", images))


def test_no_name_of_the_experts_travels(tmp_path: Path) -> None:
    b = pfedsam()
    order = Order("train", "a", 0, b.start, fingerprint=fingerprint(b.start))
    update = b.worker(tmp_path).handle(order)
    assert isinstance(update, Update)
    assert update.tensors.keys() == set(b.shared) and not update.extras
    assert not any(word in name for name in update.tensors for word in ("mixture", "gate", "experts"))
    blocks = [f"vision_encoder.layers.{i}.adapters.mixture.{part}" for i in range(BLOCKS) for part in EXPERT_PARTS]
    assert set(b.personal) == set(blocks)
    expected = [f"vision_encoder.layers.{i}.adapters.lora.{f}.weight" for i in range(BLOCKS) for f in FACTORS]
    assert {name for name in b.shared if name.startswith("vision_encoder.")} == set(expected)
    assert any(name.startswith("mask_decoder.") for name in b.shared)


EXPERT_PARTS, FACTORS = ("down", "up", "gate.weight", "gate.bias"), ("q_down", "q_up", "v_down", "v_up")


@pytest.mark.parametrize("rank", [1, 4])
def test_bytes_are_a_formula(rank: int) -> None:
    """Two factor pairs a block, R x D and D x R, four bytes a number; the experts cost nothing on the way."""
    b = pfedsam({"decoder": "frozen"}, options={"lora": {"rank": rank}, "mixture": {"experts": 3, "width": 5}})
    message = encode(Update("a", 0, b.start, {}, 6, {}))
    header = int.from_bytes(message[:8], "little")
    assert len(message) - 8 - header == BLOCKS * 2 * 2 * rank * WIDTH * 4
    experts = sum(tensor.numel() for tensor in take(b.model, b.personal).values())
    assert experts == BLOCKS * (3 * (5 * WIDTH + WIDTH * 5) + 3 * (WIDTH + 1))


def test_the_frozen_base_does_not_change(tmp_path: Path) -> None:
    b = pfedsam()
    frozen = [name for name, _ in b.model.named_parameters() if name not in b.backbone.live]
    before = fingerprint(take(b.model, frozen))
    after(b)
    b.worker(tmp_path).handle(Order("train", "a", 0, b.start))
    assert frozen and fingerprint(take(b.model, frozen)) == before


def test_experts_are_untouched_by_other_sites_and_by_the_mean(tmp_path: Path) -> None:
    """Bit for bit from the end of a site's round to the start of its next, with another site trained between."""
    b = pfedsam()
    workers = {name: b.worker(tmp_path, Pictures(name)) for name in ("a", "b")}
    mark, updates, left = fingerprint(b.start), [], {}
    for name, worker in workers.items():
        updates.append(worker.handle(Order("train", name, 0, b.start, fingerprint=mark)))
        left[name] = take(b.model, b.personal)
    assert not equal(left["a"], left["b"])
    server = b.method.aggregate(Server(b.start), [u for u in updates if isinstance(u, Update)])
    for name, worker in workers.items():
        worker.handle(Order("keep", name, 0, {}, accepted=0, origin=mark))
        private = worker.memory.committed()[0]
        assert equal(b.method.personal(private, server.shared), left[name])
        worker.as_model("personal", server.shared, worker.method.personal(private, server.shared))
        assert equal(take(b.model, b.personal), left[name])
        assert equal(take(b.model, b.shared), server.shared)


def test_a_single_site_is_its_own_mean(tmp_path: Path) -> None:
    b = pfedsam()
    update = b.worker(tmp_path).handle(Order("train", "a", 0, b.start))
    assert isinstance(update, Update)
    assert equal(b.method.aggregate(Server(b.start), [update]).shared, update.tensors)


def test_a_site_that_starts_again_goes_on_as_if_it_had_not(tmp_path: Path) -> None:
    """The second round in the same process, and in a new one with a new model and the folder alone."""
    results = []
    for restart in (False, True):
        b = pfedsam()
        folder = tmp_path / str(restart)
        worker = b.worker(folder)
        first = worker.handle(Order("train", "a", 0, b.start, fingerprint="x"))
        assert isinstance(first, Update)
        if restart:
            b = pfedsam()
            worker = b.worker(folder)
        second = worker.handle(Order("train", "a", 1, first.tensors, fingerprint="y", accepted=0, origin="x"))
        assert isinstance(second, Update)
        results.append(second.tensors | take(b.model, b.personal))
    assert equal(*results)


# The stages


@dataclass
class Watched(Pictures):
    """Notes after each step which tensors the step could change and which it did."""

    model: nn.Module = field(default_factory=nn.Module)
    steps: list[tuple[str, set[str], set[str]]] = field(default_factory=list)

    def batches(self, steps: int, batch_size: int, key: tuple[object, ...]) -> Any:
        for batch in super().batches(steps, batch_size, key):
            before = {name: p.detach().clone() for name, p in self.model.named_parameters()}
            yield batch
            now = dict(self.model.named_parameters())
            open_to = {name for name, p in now.items() if p.requires_grad}
            self.steps.append((str(key[-1]), open_to, {n for n, t in before.items() if not torch.equal(t, now[n])}))


def test_each_stage_has_its_own_tensors() -> None:
    """In the global stage no gradient for psi, in the local stage none for phi; only those tensors move."""
    b = pfedsam({"kd_direction": "mutual"})
    site = Watched(model=b.model)
    after(b, site)
    own = {"global": set(b.shared), "local": set(b.personal)}
    assert [stage for stage, _, _ in site.steps] == ["global", "global", "local", "local"]
    for stage, open_to, changed in site.steps:
        assert open_to == own[stage]
        assert changed <= own[stage] and len(changed) > 0.9 * len(own[stage])


@pytest.mark.parametrize(
    ("order", "stages"),
    [
        ("global_local", ["global", "global", "local", "local", "local"]),
        ("local_global", ["local", "local", "local", "global", "global"]),
        ("interleaved", ["interleaved"] * 3),
    ],
)
def test_stages_come_in_the_order_of_the_option(order: str, stages: list[str]) -> None:
    """Two of five steps are global. Interleaved, both stages step on the same batch while both last."""
    b = pfedsam({"stage_order": order, "global_share": 0.4})
    site = Pictures()
    *_, outcome = after(b, site, training=replace(b.training, local_steps=5))
    assert site.stages == stages
    assert outcome.metrics["steps"] == 5


@pytest.mark.parametrize("order", ["global_local", "local_global", "interleaved"])
@pytest.mark.parametrize(("share", "steps"), [(0.0, 3), (1.0, 3), (0.5, 1), (0.01, 2), (0.99, 2)])
def test_a_round_takes_the_rounds_steps(order: str, share: float, steps: int) -> None:
    b = pfedsam({"stage_order": order, "global_share": share})
    training = replace(b.training, local_steps=steps)
    shared, personal = noisy(b.start), noisy(take(b.model, b.personal), 1)
    private = with_prefix("personal", personal)
    found = after(b, shared=shared, private=private, training=training)
    assert found[2].metrics["steps"] == steps
    first = first_steps(steps, share)
    assert equal(found[0], shared) == (first == 0)
    assert equal(found[1], personal) == (first == steps)


def test_moments_of_the_experts_are_kept_and_of_the_shared_part_not() -> None:
    b = pfedsam()
    *_, outcome = after(b)
    kept = without_prefix("optimiser", outcome.private)
    assert {name.partition("|")[0] for name in kept} == set(b.personal)
    step = f"{b.personal[0]}|step"
    assert kept[step] == 2
    *_, again = after(b, private=outcome.private)
    assert without_prefix("optimiser", again.private)[step] == 4


def test_moments_are_kept_where_no_local_step_is_taken() -> None:
    b, idle = pfedsam(), pfedsam({"global_share": 1.0})
    *_, outcome = after(b)
    *_, later = after(idle, private=outcome.private)
    assert equal(later.private, outcome.private)


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
    student = logits(b, phi | mine, "personal", batch.images)
    expected = distillation_loss(student, logits(b, states[teacher], "global", batch.images), batch.valid, temperature)
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
    student, teacher = (logits(b, received | mine, which, batch.images) for which in ("global", "personal"))
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
    student, teacher = (logits(b, received | trained, which, batch.images) for which in ("global", "personal"))
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


# The other options


@pytest.mark.parametrize(("path", "independent"), [("bypass", True), ("frozen_in_path", False)])
def test_the_experts_place_in_the_global_stage(path: str, independent: bool) -> None:
    """Bypassed, phi does not know what the experts are; in the path it learns around them, and they still stay."""
    b = pfedsam({"global_stage_moe": path, "global_share": 1.0})
    phi = []
    for seed in (1, 2):
        mine = noisy(take(b.model, b.personal), seed)
        shared, psi, _ = after(b, private=with_prefix("personal", mine))
        assert equal(psi, mine)
        phi.append(shared)
    assert equal(*phi) == independent


def decoder_of(state: Any) -> set[str]:
    return {name for name in state if not name.startswith("vision_encoder.")}


def test_the_decoders_modes() -> None:
    decoder = {mode: pfedsam({"decoder": mode}) for mode in ("full", "frozen", "local")}
    is_decoder = {mode: decoder_of(b.backbone.start) for mode, b in decoder.items()}
    assert is_decoder["full"] and is_decoder["full"] <= set(decoder["full"].shared)
    assert not is_decoder["frozen"]
    assert is_decoder["local"] == is_decoder["full"] and is_decoder["local"] <= set(decoder["local"].personal)
    for mode, b in decoder.items():
        before = take(b.model, is_decoder["full"])
        shared, personal, _ = after(b, shared=b.start, private={})
        moved = not equal(take(b.model, is_decoder["full"]), before)
        assert moved == (mode != "frozen")
        assert bool(is_decoder["full"] & shared.keys()) == (mode == "full")
        assert bool(is_decoder["full"] & personal.keys()) == (mode == "local")


def test_a_low_rank_decoder_trains_and_sends_its_factors_and_its_head() -> None:
    """And nothing else of it: the rest is in the hash of what training must not touch."""
    b = pfedsam({"decoder": "lora"})
    factors = {n for n in decoder_of(b.shared) if ".adapters.lora." in n}
    head = {n for n in decoder_of(b.shared) if "output_hypernetworks_mlps" in n or n.startswith("detail.")}
    assert len(factors) == 7 * 4 and head and decoder_of(b.shared) == factors | head
    assert not decoder_of(b.personal)
    rest = decoder_of(n for n, _ in b.model.named_parameters()) - set(b.shared)
    assert any("q_proj" in name for name in rest) and any("upscale" in name for name in rest)
    before = fingerprint(take(b.model, rest))
    shared, _, _ = after(b, shared=b.start, private={})
    assert fingerprint(take(b.model, rest)) == before
    ups = [n for n in factors if n.endswith("_up.weight")]  # a factor A has no gradient while its B is zero
    assert all(not torch.equal(shared[name], b.start[name]) for name in (*ups, *head))


def test_a_low_rank_decoder_starts_as_the_decoder_it_adapts() -> None:
    images = picture(2, 0).images
    full, low = pfedsam(), pfedsam({"decoder": "lora"})
    assert torch.equal(logits(low, low.start, "personal", images), logits(full, full.start, "personal", images))


def test_bytes_of_a_low_rank_decoder_are_a_formula() -> None:
    """sam-tiny's decoder is 64 wide: two attentions of 64, five of 32, two pairs each; the head is what it was."""
    b = pfedsam({"decoder": "lora"}, options={"decoder_lora": {"rank": 3}})
    sizes = {name: tensor.numel() for name, tensor in b.start.items() if name.startswith("mask_decoder.")}
    factors = sum(size for name, size in sizes.items() if ".adapters." in name)
    assert factors == 2 * 3 * (2 * (64 + 64) + 5 * (64 + 32))
    assert sum(sizes.values()) - factors == 2 * (64 * 64 + 64) + 64 * 8 + 8


def test_factors_of_the_decoder_are_pairs_to_an_aggregator() -> None:
    """What naive averaging of A and B is wrong by is measured on them, where there are no others."""
    model = {"adapter": ("mixture", "decoder_lora")}
    b = pfedsam({"decoder": "lora"}, **model)
    assert not any(".adapters.lora." in name for name in b.shared if name.startswith("vision_encoder."))
    updates = [Update(site, 0, noisy(b.start, seed), {}, 6, {}) for seed, site in enumerate("ab", 1)]
    assert b.method.aggregate(Server(b.start), updates).metrics["lora_error"] > 0.01
    assert (
        "lora_error"
        not in bench("pfedsam", None, adapter=("mixture",))
        .method.aggregate(Server({}), [replace(update, tensors={}) for update in updates])
        .metrics
    )


def test_what_an_option_works_on_must_be_in_the_recipe() -> None:
    for options, adapters, lacks in (
        ({"decoder": "lora"}, ("lora", "mixture"), "decoder_lora"),
        ({"orth_weight": 0.1, "shared": "full"}, ("mixture",), "lora"),
        ({"orth_weight": 0.1, "final_local_epochs": 0.0}, ("lora",), "mixture"),
    ):
        experiment = Experiment(model=ModelConfig(adapter=adapters), method=MethodConfig("pfedsam", options))
        with pytest.raises(UserError, match=f"model.adapter: pfedsam works on '{lacks}', .*; add it"):
            make_method(experiment)


def test_the_whole_network_can_be_shared() -> None:
    b = pfedsam({"shared": "full"})
    name = "vision_encoder.layers.0.attn.qkv.weight"
    before = take(b.model, [name])[name]
    assert b.method.train_default == "all" and pfedsam().method.train_default == "adapters"
    assert name in b.shared and not any("mixture" in n for n in b.shared)
    shared, _, _ = after(b, shared=b.start, private={})
    assert not torch.equal(shared[name], before)


@pytest.mark.parametrize(("epochs", "steps"), [(0.0, 0), (0.5, 1), (1.0, 2), (3.0, 6)])
def test_the_last_local_stage(epochs: float, steps: int) -> None:
    """Rounds' worth of local steps (here two) on the experts alone, which go on from their moments."""
    b = pfedsam({"final_local_epochs": epochs})
    *_, before = after(b)
    site = Pictures()
    phi, psi = noisy(b.start), noisy(take(b.model, b.personal), 1)
    work = b.work(site, LATE, shared=phi, private=with_prefix("personal", psi) | before.private)
    outcome = b.method.finish(work)
    assert site.stages == ["final"] * steps
    if outcome is None:
        assert steps == 0
        return
    shared, personal = b.method.split(work)
    assert outcome.metrics["steps"] == steps
    assert equal(shared, phi) and not equal(personal, psi)
    assert outcome.private[f"optimiser.{b.personal[0]}|step"] == 2 + steps


def test_the_last_stage_may_tune_a_copy_of_the_shared_part() -> None:
    """The copy is the site's own: it is put over the shared tensors of its personal model, and of no other."""
    b = pfedsam({"final_stage": "all"})
    phi, psi = noisy(b.start), noisy(take(b.model, b.personal), 1)
    outcome = b.method.finish(b.work(None, LATE, shared=phi, private=with_prefix("personal", psi)))
    assert outcome is not None
    check_declared(outcome.private, b.method.site_state, "a site's state")
    tuned, personal = b.method.split(b.work(None, LATE, shared=phi, private=with_prefix("personal", psi)))
    own = b.method.personal(outcome.private | with_prefix("personal", personal), phi)
    assert equal(tuned, phi) and own.keys() == {*b.shared, *b.personal}
    assert all(not torch.equal(own[name], phi[name]) for name in b.shared)
    assert "a copy of the shared part" in " ".join(b.method.notes())


def test_the_last_stage_has_the_same_teacher() -> None:
    """The average stays the teacher: another average, other experts."""
    b = pfedsam({"kd_teacher": "ema"})
    found = []
    for seed in (3, 4):
        private = with_prefix("personal", noisy(take(b.model, b.personal), 1))
        work = b.work(None, LATE, private=private | with_prefix("ema", noisy(b.start, seed)))
        b.method.finish(work)
        found.append(b.method.split(work)[1])
        put(b.model, b.backbone.start)
    assert not equal(*found)


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


@pytest.mark.parametrize(
    "options", [{"expert": "low_rank"}, {"beside": "attention"}, {"blocks": "global"}, {"experts": 1, "top_k": 1}]
)
def test_any_mixture_is_trained_and_stays(options: dict[str, Any]) -> None:
    b = pfedsam(options={"mixture": options})
    before = noisy(take(b.model, b.personal), 1)
    shared, psi, _ = after(b, private=with_prefix("personal", before))
    assert not any("mixture" in name for name in shared)
    still = [name for name in psi if torch.equal(psi[name], before[name])]
    assert not [name for name in still if "gate" not in name]
    assert not still or options["experts"] == 1, "one expert's gate is 1, whatever its router says"


@pytest.mark.parametrize("mixture", [{}, {"top_k": 2}, {"beside": "attention", "experts": 2}, {"blocks": "last_half"}])
def test_a_sites_record_has_the_mean_gates_of_each_block_with_experts(mixture: dict[str, Any]) -> None:
    """Of the personal model alone: bypassed, experts are not used."""
    b = pfedsam(options={"mixture": mixture})
    put(b.model, noisy(take(b.model, b.personal)))
    scores = SiteScores(Pictures(), Looks())  # type: ignore[arg-type]
    for which in b.method.judged:
        b.method.use(b.model, which)
        scores.add(which, b.model, "test")
    blocks = {name.rpartition(".adapters.")[0] for name in b.personal}
    assert set(scores.router) == {f"{block}.adapters.mixture" for block in blocks}
    for gates in scores.router.values():
        assert len(gates) == mixture.get("experts", 4) and sum(gates) == pytest.approx(1.0, abs=1e-5)


class Looks:
    """In place of a scorer: lets the model see a picture."""

    def rows(self, model: nn.Module, *_: Any) -> list[Any]:
        with torch.no_grad():
            model.eval()(picture(2, 0).images)
        return []


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
    logits(b, noisy(b.start) | mine, "personal", first_batch("local").images)
    routers = [m for m in b.model.modules() if hasattr(m, "balance")]
    expected = 0.5 * sum(float(router.balance) for router in routers) if top_k else 0.0  # type: ignore[arg-type]
    assert len(routers) == BLOCKS
    assert losses[1] - losses[0] == pytest.approx(expected, rel=1e-4, abs=1e-7)
    assert (expected > 0) == (top_k > 0)


@pytest.mark.parametrize(
    "options",
    [
        {"global_share": -0.1},
        {"global_share": 1.1},
        {"global_share": float("nan")},
        {"kd_temperature": 0.0},
        {"kd_temperature": float("nan")},
        {"kd_weight": -1.0},
        {"balance_weight": -1.0},
        {"orth_weight": -1.0},
        {"prox_weight": -1.0},
        {"prox_weight": float("nan")},
        {"final_local_epochs": -1.0},
        {"ema_decay": 1.0},
        {"ema_decay": -0.1},
    ],
)
def test_options_that_cannot_be_right(options: dict[str, float]) -> None:
    with pytest.raises(UserError, match=rf"method.*{next(iter(options))}"):
        Method(Options(**options))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "adapters", "mend"),
    [
        ({}, ("lora",), "nothing to train in its local stage; add 'mixture'"),
        ({"decoder": "frozen"}, ("mixture",), "nothing to train in its global stage; add 'lora'"),
    ],
)
def test_a_model_without_one_of_the_parts(options: dict[str, Any], adapters: tuple[str, ...], mend: str) -> None:
    b = pfedsam(options, adapter=adapters)
    with pytest.raises(UserError, match=mend):
        b.method.train(b.work())


def test_a_part_that_no_stage_trains_may_be_missing() -> None:
    b = pfedsam({"global_share": 1.0, "final_local_epochs": 0.0}, adapter=("lora",))
    assert b.method.train(b.work()).metrics["steps"] == b.training.local_steps
