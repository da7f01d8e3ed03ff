"""FedDPA: how the two pairs are mixed, what each stage trains, and when."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from methods.conftest import Bench, Pictures, bench, equal, noisy, picture
from sammit.config import Experiment, ModelConfig
from sammit.errors import UserError
from sammit.learning.loop import fit
from sammit.methods.feddpa import Method, Options
from sammit.methods.state import has_component, put, select, set_active, take, with_prefix
from sammit.models.adapters.base import with_adapters
from sammit.vocabulary import Order, State, Update


def feddpa(**options: Any) -> Bench:
    return bench("feddpa", options, adapter=("lora", "own_lora"))


def shared_pair(state: State) -> State:
    return select(state, lambda name: has_component(name, "lora"))


def as_own(state: State) -> State:
    """Shared factors under the private ones' names."""
    return {name.replace(".lora.", ".own_lora."): tensor for name, tensor in shared_pair(state).items()}


def test_the_private_pair_alone_stays() -> None:
    b = feddpa()
    assert b.personal and all(".own_lora." in name for name in b.personal)
    assert set(as_own(b.start)) == set(b.personal)
    assert any(name.startswith("mask_decoder.") for name in b.shared)


def test_the_mix_by_its_ends() -> None:
    """a = 0 is the shared pair, a = 1 the private one, a half of two equal pairs either; the global model has a = 0."""
    phi = noisy(feddpa().start)
    own = noisy(as_own(phi), 1)
    swapped = {name.replace(".own_lora.", ".lora."): tensor for name, tensor in own.items()}
    images = picture(2, 0).images
    found = {weight: feddpa(own_weight=weight).logits({**phi, **own}, "personal", images) for weight in (0.0, 0.5, 1.0)}
    plain = feddpa().logits({**phi, **own}, "global", images)
    assert torch.allclose(found[0.0], plain, atol=1e-6)
    assert torch.allclose(found[1.0], feddpa().logits({**phi, **swapped}, "global", images), atol=1e-6)
    assert torch.allclose(feddpa().logits({**phi, **as_own(phi)}, "personal", images), plain, atol=1e-5)
    assert not torch.allclose(found[0.5], plain, atol=1e-4) and not torch.allclose(found[0.5], found[1.0], atol=1e-4)


@torch.no_grad()
def test_the_mix_is_what_the_equation_says() -> None:
    """1 - a times what the shared factors add to q and v, and a times what the private ones add."""
    b = feddpa(own_weight=0.3)
    put(b.model, noisy(b.start) | noisy(take(b.model, b.personal), 1))
    adapters = b.model.vision_encoder.blocks[0].adapters  # type: ignore[union-attr, operator]
    tokens = torch.randn(2, 5, 96, generator=torch.Generator().manual_seed(0))
    base, pairs = torch.ones(2, 5, 3 * 96), {name: adapters[name].to_qkv(tokens) for name in ("lora", "own_lora")}
    b.method.use(b.model, "personal")
    expected = base + 0.7 * pairs["lora"] + 0.3 * pairs["own_lora"]
    assert torch.allclose(with_adapters(adapters, "to_qkv", tokens, base), expected, atol=1e-6)
    b.method.use(b.model, "global")
    assert torch.allclose(with_adapters(adapters, "to_qkv", tokens, base), base + pairs["lora"], atol=1e-6)


# Stages


@pytest.mark.parametrize(
    ("options", "stages"),
    [
        ({}, ["own"] * 2 + ["shared"] * 2),
        ({"own_share": 0.3}, ["own"] + ["shared"] * 3),
        ({"own_share": 0.0}, ["shared"] * 4),
        ({"own_share": 1.0}, ["own"] * 4),
        ({"schedule": "after"}, ["shared"] * 4),
    ],
)
def test_the_steps_of_a_round_are_parted(options: dict[str, Any], stages: list[str]) -> None:
    b, site = feddpa(**options), Pictures()
    received, own = noisy(b.start), noisy(take(b.model, b.personal), 1)
    work = b.work(site, shared=received, private=with_prefix("personal", own))
    outcome = b.method.train(work)
    shared, personal = b.method.split(work)
    assert site.stages == stages and outcome.metrics["steps"] == 4
    assert equal(shared, received) == ("shared" not in stages)
    assert equal(personal, own) == ("own" not in stages)


def test_what_travels_is_fedavgs_on_the_shared_pair_alone() -> None:
    """Bit for bit, whatever the private pair is: it is out of the path."""
    found = []
    for seed in (1, 2):
        b = feddpa()
        private = with_prefix("personal", noisy(take(b.model, b.personal), seed))
        work = b.work(shared=noisy(b.start), private=private)
        b.method.train(work)
        found.append(b.method.split(work)[0])
    b = feddpa()
    work = b.work(shared=noisy(b.start))
    set_active(b.model, "own_lora", False)
    trainer = work.trainer(b.shared, 2)
    fit(trainer, work.batches(2, "shared"), b.method.objective(work))
    assert equal(found[0], take(b.model, b.shared)) and equal(found[1], found[0])


def test_the_private_pair_learns_beside_what_was_received() -> None:
    """The first stage's step is that of the mixed model: by hand, on a trainer of its own."""
    b = feddpa()
    received, own = noisy(b.start), noisy(take(b.model, b.personal), 1)
    private = with_prefix("personal", own)
    work = b.work(shared=received, private=private)
    b.method.train(work)
    trained = b.method.split(work)[1]
    work = b.work(shared=received, private=private)
    b.method.use(b.model, "personal")
    trainer = work.trainer(b.personal, 2)
    fit(trainer, work.batches(2, "own"), b.method.objective(work))
    assert equal(take(b.model, b.personal), trained)


def test_a_pair_that_was_never_trained_is_the_shared_one(tmp_path: Path) -> None:
    """FedDPA-F before its stage: the personal model is the global one, also in later rounds."""
    b, images = feddpa(schedule="after"), picture(2, 0).images
    stale = with_prefix("personal", noisy(as_own(b.start), 3)) | {"copied": torch.tensor(1)}
    for private in ({}, stale):
        phi = noisy(b.start, 4)
        personal = b.method.personal(private, phi)
        assert equal(select(personal, lambda name: has_component(name, "own_lora")), as_own(phi))
        assert torch.allclose(
            b.logits({**phi, **personal}, "personal", images), b.logits(phi, "global", images), atol=1e-5
        )
    worker = b.worker(tmp_path)
    assert isinstance(worker.handle(Order("train", "a", 0, b.start, fingerprint="0")), Update)
    worker.handle(Order("keep", "a", 0, {}, accepted=0, origin="0"))
    assert "copied" in worker.memory.committed()[0]


@pytest.mark.parametrize(("epochs", "steps"), [(0.1, 1), (0.5, 2), (2.0, 8)])
def test_feddpa_f_trains_the_private_pair_once(epochs: float, steps: int) -> None:
    b, site = feddpa(schedule="after", final_local_epochs=epochs), Pictures()
    phi = noisy(b.start)
    work = b.work(site, 9, shared=phi)
    outcome = b.method.finish(work)
    assert outcome is not None and outcome.metrics["steps"] == steps and site.stages == ["final"] * steps
    shared, personal = b.method.split(work)
    assert equal(shared, phi) and not equal(personal, as_own(phi))
    assert equal(b.method.personal(with_prefix("personal", personal) | outcome.private, phi), personal)


def test_half_a_pair_is_not_copied() -> None:
    """Under FFA-LoRA the shared A does not travel: B beside another A would be no copy."""
    b = feddpa()
    ups = select(b.start, lambda name: name.endswith("_up.weight"))
    assert ups and b.method.personal({}, ups) == {}


def test_a_new_site_trains_a_pair_of_its_own() -> None:
    """From the shared pair, or from the one it is given; what is shared stays."""
    b, phi = feddpa(), noisy(feddpa().start)
    given = noisy(as_own(phi), 2)
    for private, start in (({}, as_own(phi)), (with_prefix("personal", given), given)):
        work = b.work(shared=phi, private=private)
        assert equal(take(b.model, b.personal), start)
        outcome = b.method.join(work)
        shared, personal = b.method.split(work)
        assert equal(shared, phi) and not equal(personal, start)
        assert equal(b.method.personal(outcome.private | with_prefix("personal", personal), phi), personal)


def test_feddpa_t_has_no_last_stage() -> None:
    b = feddpa()
    assert b.method.finish(b.work()) is None


@pytest.mark.parametrize("kept", ["reset", "keep"])
def test_the_private_pairs_moments_are_always_kept(kept: Any) -> None:
    b = feddpa()
    training = replace(b.training, optimiser_state=kept)
    private: State = {}
    for index in range(2):
        work = b.work(None, index, private=private, training=training)
        private = b.method.train(work).private | with_prefix("personal", b.method.split(work)[1])
    assert private[f"optimiser.{b.personal[0]}|step"] == 4
    assert (f"optimiser.{b.shared[0]}|step" in private) == (kept == "keep")


def test_the_decoders_modes() -> None:
    for mode in ("full", "frozen", "local"):
        b = feddpa(decoder=mode)
        outside = [[n for n in names if not n.startswith("vision_encoder.")] for names in (b.shared, b.personal)]
        assert [bool(names) for names in outside] == [mode == "full", mode == "local"]


def test_when_the_pair_was_trained_is_told() -> None:
    assert "in every round" in Method().notes()[0]
    assert "2 rounds' worth" in Method(Options(schedule="after", final_local_epochs=2.0)).notes()[0]


# Mistakes


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (ModelConfig(adapter=("lora", "own_lora"), options={"own_lora": {"rank": 2}}), r"\[model\.own_lora\]"),
        (ModelConfig(adapter=("lora", "own_lora", "decoder_lora")), "'own_decoder_lora'"),
        (ModelConfig(adapter=("lora",)), "'own_lora'"),
    ],
)
def test_pairs_that_do_not_match_are_refused(model: ModelConfig, said: str) -> None:
    with pytest.raises(UserError, match=said):
        Method().plan(Experiment(model=model), {})


@pytest.mark.parametrize(
    "options",
    [
        {"own_weight": 1.1},
        {"own_weight": -0.1},
        {"own_share": 1.1},
        {"own_share": float("nan")},
        {"final_local_epochs": 0.0},
    ],
)
def test_options_that_cannot_be_right(options: dict[str, float]) -> None:
    with pytest.raises(UserError, match=rf"method.*{next(iter(options))}"):
        Method(Options(**options))  # type: ignore[arg-type]
