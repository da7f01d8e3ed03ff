"""pFedSAM: what stays and what travels, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from methods.conftest import Pictures, equal, noisy, picture
from methods.pfedsam_bench import BLOCKS, WIDTH, after, pfedsam
from sammit.config import Experiment, MethodConfig, ModelConfig
from sammit.errors import UserError
from sammit.federation.messages import encode
from sammit.federation.prepare import make_method
from sammit.methods.base import Server
from sammit.methods.pfedsam import Method, Options
from sammit.methods.state import fingerprint, take
from sammit.vocabulary import Order, Update

# What stays and what travels


def test_at_round_0_the_personal_model_is_the_global_one() -> None:
    b = pfedsam()
    images = picture(2, 0).images
    assert torch.equal(b.logits({}, "personal", images), b.logits({}, "global", images))
    moved = noisy(take(b.model, b.personal))
    assert not torch.equal(b.logits(moved, "personal", images), b.logits(moved, "global", images))


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


# What is refused


def test_what_an_option_works_on_must_be_in_the_recipe() -> None:
    for options, adapters, lacks in (
        ({"decoder": "lora"}, ("lora", "mixture"), "decoder_lora"),
        ({"orth_weight": 0.1, "shared": "full"}, ("mixture",), "lora"),
        ({"orth_weight": 0.1, "final_local_epochs": 0.0}, ("lora",), "mixture"),
    ):
        experiment = Experiment(model=ModelConfig(adapter=adapters), method=MethodConfig("pfedsam", options))
        with pytest.raises(UserError, match=f"model.adapter: pfedsam works on '{lacks}', .*; add it"):
            make_method(experiment)


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
