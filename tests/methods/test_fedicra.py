"""FedICRA: codes that stay and are passed on, each term of the loss, the two stages, the adaptive start."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from methods.conftest import Bench, Pictures, bench, equal, noisy, picture
from sammit.errors import UserError
from sammit.learning.crf import gated_crf_loss
from sammit.learning.losses import segmentation_loss
from sammit.learning.trees import tree_energy_loss
from sammit.methods import adaptive
from sammit.methods.base import Server, Work
from sammit.methods.fedicra import Method, Options, distance, first_codes, is_code
from sammit.methods.heads import in_body, in_head
from sammit.methods.mixing import mixed
from sammit.methods.state import put, select, take, with_prefix
from sammit.randomness import key_to_seed
from sammit.vocabulary import Order, State, Update

PLAIN: dict[str, Any] = {"optimiser": "sgd", "momentum": 0.0, "clip": 0.0, "schedule": "constant", "lr": 0.01}
SITES = ("a", "b", "c")


def fedicra(options: dict[str, Any] | None = None, **model: Any) -> Bench:
    return bench("fedicra", options, adapter=("condition",), **model)


def personal(b: Bench, seed: int = 1) -> State:
    """Codes of a site, noisy."""
    return with_prefix("personal", noisy(take(b.model, b.personal), seed, 1.0))


def own_layers(b: Bench, seed: int = 2) -> State:
    """A decoder of the site's own."""
    return noisy(select(b.start, lambda name: not in_body(name)), seed)


def work_of(b: Bench, codes: int = 0, **given: Any) -> Work:
    """A site's work from noisy tensors; `codes` of other sites are sent along."""
    given.setdefault("shared", noisy(b.start))
    given.setdefault("private", personal(b))
    work = b.work(None, 5, **given)
    draw = torch.Generator().manual_seed(9)
    extras = {f"code.{i}": torch.randn(16, generator=draw) for i in range(codes)}
    return replace(work, order=replace(work.order, extras=extras))


# Codes


def test_codes_stay_and_everything_else_travels() -> None:
    b = fedicra()
    assert all(is_code(name) for name in b.personal) and len(b.personal) == 4
    assert not any(is_code(name) for name in b.shared)
    assert {name for name in b.shared if in_body(name)} == {
        f"vision_encoder.layers.{i}.adapters.condition.{part}.weight" for i in range(4) for part in ("down", "up")
    }


def test_a_site_starts_with_codes_of_its_own() -> None:
    """White noise keyed with the site; a later round goes on with what it kept."""
    b = fedicra()
    first = {site: first_codes(b.work(Pictures(site))) for site in SITES}
    assert all(equal(first[site], first_codes(b.work(Pictures(site)))) for site in SITES)
    numbers = torch.cat([code for site in SITES for code in first[site].values()])
    assert len(numbers.unique()) == 3 * 4 * 16 and abs(float(numbers.std()) - 1) < 0.2
    still = replace(b.training, lr=1e-30)
    for private, expected in (({}, first["a"]), (personal(b), None)):
        work = b.work(Pictures("a"), 0, private=private, training=still)
        b.method.train(work)
        kept = b.method.split(work)[1]
        wanted = expected or {name.removeprefix("personal."): code for name, code in private.items()}
        assert all(torch.allclose(kept[name], code, atol=1e-6) for name, code in wanted.items())


def test_each_site_is_sent_the_codes_of_the_others(tmp_path: Path) -> None:
    """Of the last block, without the sites' names; the mean leaves them alone."""
    b = fedicra()
    server = Server(b.start)
    assert b.method.orders(server, "a") == (b.start, {})
    updates = []
    for site in SITES:
        tensors, extras = b.method.orders(server, site)
        update = b.worker(tmp_path, Pictures(site)).handle(Order("train", site, 0, tensors, extras))
        assert isinstance(update, Update)
        code = b.model.get_parameter("vision_encoder.layers.3.adapters.condition.code").detach()
        assert torch.equal(update.extras["code.own"], code)
        updates.append(update)
    after = b.method.aggregate(server, updates)
    assert set(after.memory) == {f"code.{site}" for site in SITES}
    sent = b.method.orders(after, "b")[1]
    assert equal(sent, {"code.0": updates[0].extras["code.own"], "code.1": updates[2].extras["code.own"]})
    name = b.shared[0]
    assert torch.allclose(after.shared[name], torch.stack([u.tensors[name] for u in updates]).mean(0), atol=1e-6)
    silent = b.method.aggregate(after, updates[:1])  # a site that does not answer keeps its place
    assert equal(silent.memory, after.memory)


def test_the_global_model_has_the_code_of_no_site(tmp_path: Path) -> None:
    b = fedicra()
    worker = b.worker(tmp_path)
    worker.handle(Order("train", "a", 0, b.start))
    worker.as_model("global", b.start, {})
    assert all(not b.model.get_parameter(name).any() for name in b.personal)


# The loss


def terms(b: Bench, work: Work, logits: Tensor, batch: Any) -> dict[str, float]:
    """Each term of a batch by its own function."""
    last = b.model.get_submodule("vision_encoder.layers.3.adapters.condition")
    others = list(work.order.extras.values())
    heats = [last.heat(last.pooled, code) for code in (last.code, *others)]
    apart = torch.stack([(heats[0] - heat).square().mean() for heat in heats[1:]]).mean()
    return {
        "supervised": float(segmentation_loss(logits, batch, 0.0, 1.0)),
        "crf": float(gated_crf_loss(logits, batch.images, 5, 6.0, 0.1)),
        "tree": float(tree_energy_loss(logits, batch.images, batch.valid, 0.02)),
        "apart": float(apart),
    }


def test_the_loss_is_the_sum_of_its_terms() -> None:
    b = fedicra({"crf_weight": 0.3, "tree_weight": 5.0, "contrast_weight": 20.0})
    work = work_of(b, codes=2)
    batch = picture(2, 3)
    with torch.no_grad():
        loss = float(b.method.objective(work)(batch))
        part = terms(b, work, b.model(batch.images), batch)
        assert min(part.values()) > 1e-5
        expected = part["supervised"] + 0.3 * part["crf"] + 5 * part["tree"] - 20 * part["apart"]
        assert loss == pytest.approx(expected, rel=1e-5)
        alone = replace(work, order=replace(work.order, extras={}))
        assert float(b.method.objective(alone)(batch)) == pytest.approx(expected + 20 * part["apart"], rel=1e-5)


@pytest.mark.parametrize(("supervision", "dice", "bce"), [("cross_entropy", 0.0, 1.0), ("recipe", 0.8, 0.2)])
def test_supervision(supervision: str, dice: float, bce: float) -> None:
    """Labelled pixels alone: what a mask says elsewhere changes nothing."""
    b = fedicra({"supervision": supervision, "crf_weight": 0.0, "tree_weight": 0.0})
    objective, batch = b.method.objective(work_of(b)), picture(2, 3)
    batch.valid[..., 8:] = 0
    with torch.no_grad():
        expected = float(segmentation_loss(b.model(batch.images), batch, dice, bce))
        assert float(objective(batch)) == pytest.approx(expected)
        batch.truth[..., 8:] = 1 - batch.truth[..., 8:]
        assert float(objective(batch)) == pytest.approx(expected)


def test_contrast_moves_the_own_heat_away_and_the_others_not() -> None:
    b = fedicra()
    work = work_of(b, codes=1)
    b.model(picture(2, 3).images)
    last: Any = b.model.get_submodule("vision_encoder.layers.3.adapters.condition")
    (other,) = work.order.extras.values()
    other.requires_grad_()
    before = distance(last, [other])
    before.backward()  # type: ignore[no-untyped-call]
    assert other.grad is None and last.code.grad.abs().sum() > 0
    with torch.no_grad():
        last.code += 0.5 * last.code.grad / last.code.grad.norm()
    assert distance(last, [other]).detach() > before.detach()


# The stages


def test_first_the_output_then_everything_else() -> None:
    """A share of one leaves the rest as it was, one of nothing leaves the output; moments of both are kept."""
    for share, stages in ((0.0, ["body"] * 4), (0.25, ["head"] + ["body"] * 3), (1.0, ["head"] * 4)):
        b, site = fedicra({"head_share": share}), Pictures()
        shared, private = noisy(b.start), personal(b)
        work = b.work(site, 5, shared=shared, private=private, training=replace(b.training, optimiser_state="keep"))
        outcome = b.method.train(work)
        assert site.stages == stages and outcome.metrics["steps"] == 4
        after, codes = b.method.split(work)
        moved = {name for name, tensor in after.items() if not torch.equal(tensor, shared[name])}
        output = {name for name in b.shared if in_head(name, "output")}
        assert bool(moved & output) == (share > 0) and bool(moved - output) == (share < 1)
        assert equal(with_prefix("personal", codes), private) == (share == 1)
        steps = {name: float(t) for name, t in outcome.private.items() if name.endswith("|step")}
        assert set(steps.values()) <= {4 * share, 4 * (1 - share)}


# The adaptive start


def test_a_round_starts_from_the_mixture() -> None:
    """Without a step to take, what is sent and kept is w + W (w^t - w): the decoder mixed, the encoder overwritten."""
    b = fedicra({"eta": 1e-30})
    shared, own = noisy(b.start), own_layers(b)
    weights = {name: torch.full_like(tensor, 0.25) for name, tensor in own.items()}
    private = personal(b) | adaptive.kept(own, weights)
    still = replace(b.training, lr=1e-30, weight_decay=0.0)
    work = b.work(None, 5, shared=shared, private=private, training=still)
    outcome = b.method.train(work)
    after = b.method.split(work)[0]
    for name in b.shared:
        expected = shared[name] if in_body(name) else own[name] + 0.25 * (shared[name] - own[name])
        assert torch.allclose(after[name], expected, atol=1e-6), name
    assert equal({n: t for n, t in outcome.private.items() if n.startswith("own.")}, with_prefix("own", {
        name: after[name] for name in own}))  # fmt: skip
    model = b.method.personal(private, shared)
    assert {name for name in model if not is_code(name)} == set(own)


def test_weights_by_hand() -> None:
    """One batch: W - eta g (w^t - w), cut to [0, 1], g the gradient of the cross-entropy at the mixture."""
    b = fedicra({"eta": 3.0, "data_share": 0.1})
    shared, own = noisy(b.start), own_layers(b)
    before = {name: torch.full_like(tensor, 0.5) for name, tensor in own.items()}
    private = personal(b) | adaptive.kept(own, before)
    work = b.work(None, 5, shared=shared, private=private)
    found, _ = adaptive.learned(work, b.method.options, partial(b.method._supervised, work))  # type: ignore[attr-defined]
    put(b.model, {**shared, **mixed(own, shared, before)})
    b.model.requires_grad_(True)
    batch = picture(2, key_to_seed(0, "a", 5, "weights 0", 0))
    segmentation_loss(b.model(batch.images), batch, 0.0, 1.0).backward()  # type: ignore[no-untyped-call]
    moved = 0.0
    for name, weight in found.items():
        gradient = b.model.get_parameter(name).grad
        assert gradient is not None
        expected = (before[name] - 3.0 * gradient * (shared[name] - own[name])).clamp(0, 1)
        assert torch.allclose(weight, expected, atol=1e-6), name
        moved = max(moved, float((weight - before[name]).abs().max()))
    assert moved > 1e-3


def test_the_last_stage_learns_the_weights_alone() -> None:
    b = fedicra()
    own = own_layers(b)
    private = personal(b) | adaptive.kept(own, {name: torch.ones_like(tensor) for name, tensor in own.items()})
    work = b.work(None, 5, shared=noisy(b.start), private=private)
    outcome = b.method.finish(work)
    assert outcome is not None and outcome.metrics["steps"] == 0
    kept = {name: tensor for name, tensor in outcome.private.items() if not name.startswith("weights.")}
    assert equal(kept, with_prefix("own", own))
    assert b.method.finish(b.work()) is None


@pytest.mark.parametrize(
    "options",
    [
        {"crf_weight": -1.0},
        {"tree_weight": float("nan")},
        {"contrast_weight": -0.1},
        {"crf_radius": 0},
        {"crf_xy": 0.0},
        {"crf_rgb": 0.0},
        {"tree_sigma": 0.0},
        {"head_share": 1.1},
        {"eta": 0.0},
        {"data_share": 0.0},
    ],
)
def test_options_that_cannot_be_right(options: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=rf"method.*{next(iter(options))}"):
        Method(Options(**options))
