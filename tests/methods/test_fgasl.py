"""FGASL: which images teach what, both teachers, the threshold, the feature term, and the server's shares."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import exp, log
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

import tiny
from methods.conftest import Bench, Pictures, bench, equal, noisy, picture
from sammit.config import Experiment, TrainingConfig
from sammit.errors import UserError
from sammit.federation.prepare import prepare
from sammit.geometry import area
from sammit.learning.jitter import strongly_changed
from sammit.learning.losses import segmentation_loss
from sammit.methods.base import Server
from sammit.methods.features import decoded_twice
from sammit.methods.fgasl import Method, Options, gap, next_shares
from sammit.methods.pseudo_labels import Teachers, entropy, masked_loss
from sammit.methods.state import put, with_prefix, without_prefix
from sammit.randomness import generator
from sammit.vocabulary import Batch, Update

ALONE: dict[str, Any] = {"feature_weight": 0.0}
PLAIN: dict[str, Any] = {"optimiser": "sgd", "momentum": 0.0, "clip": 0.0, "schedule": "constant", "lr": 0.05}


@dataclass
class Half(Pictures):
    """Pictures of which every other one has no label."""

    def batches(self, steps: int, batch_size: int, key: tuple[object, ...]) -> Iterator[Batch]:
        for batch in super().batches(steps, batch_size, key):
            batch.valid[1::2] = 0
            batch.truth[1::2] = 0
            yield batch


def half() -> Batch:
    return next(Half().batches(1, 4, ("k",)))


def step_of(b: Bench, work: Any, teachers: Teachers, batch: Batch, step: int = 1) -> float:
    """The loss of one step's batch."""
    with torch.no_grad():
        return float(b.method._objective(work, teachers, step)(batch))  # type: ignore[attr-defined]


def bernoulli(p: float) -> float:
    """Entropy of a coin, nats."""
    return -p * log(p) - (1 - p) * log(1 - p)


# The loss


def test_the_loss_is_the_sum_of_its_terms() -> None:
    """Labelled images as they are, unlabelled ones changed, pseudo labels from the images as they came."""
    b = bench("fgasl", {"unlabelled_weight": 0.7, "feature_weight": 0.0})
    received, own = noisy(b.start), noisy(b.start, 2)
    batch = half()
    changed = batch.images.clone()
    changed[1::2] = strongly_changed(batch.images[1::2], generator(0, "a", 5, "strong", 1))
    with torch.no_grad():
        said = []
        for state in (own, received):
            put(b.model, state)
            said.append(b.model(batch.images[1::2]))
        pseudo = ((said[0].sigmoid() + said[1].sigmoid()) / 2 >= 0.5).float()
        unsure = (entropy(said[0]) + entropy(said[1])) / 2
        before = unsure.median()
        work = b.work(None, 5, shared=received, private=with_prefix("ema", own) | {"threshold": before})
        put(b.model, noisy(b.start, 3))
        logits = b.model(changed)
        shape = (logits.shape[-2], logits.shape[-1])
        labelled = entropy(logits[::2])[(area(batch.valid[::2], shape) >= 0.5).expand_as(logits[::2])]
        theta = 0.9 * before + 0.1 * torch.quantile(labelled, 0.15 + 0.15 * (5 + 1 / 4) / 10)
        kept = (unsure <= theta).float()
        assert 0 < kept.mean() < 1
        told = segmentation_loss(logits[::2], Batch(changed[::2], batch.truth[::2], batch.valid[::2]))
        expected = float(told + 0.7 * masked_loss(logits[1::2], pseudo, kept, b.training))
    assert step_of(b, work, Teachers(work), batch) == pytest.approx(expected, rel=1e-4)


def test_images_that_are_all_labelled_or_none() -> None:
    b = bench("fgasl", ALONE)
    work = b.work()
    batch = picture(2, 1)
    with torch.no_grad():
        expected = float(segmentation_loss(b.model(batch.images), batch))
    teachers = Teachers(work)
    assert step_of(b, work, teachers, batch) == pytest.approx(expected) and teachers.kept_share == 0
    nothing = Batch(batch.images, batch.truth * 0, batch.valid * 0)
    theta = teachers.threshold
    assert step_of(b, work, teachers, nothing) >= 0 and teachers.seen > 0 and teachers.threshold is theta


def test_the_masked_loss_by_hand() -> None:
    """One pixel of two counts: its cross-entropy over both, and Dice of it alone."""
    p = torch.tensor([[[[0.8, 0.3]]]])
    labels, kept = torch.tensor([[[[1.0, 1.0]]]]), torch.tensor([[[[1.0, 0.0]]]])
    found = masked_loss(torch.logit(p), labels, kept, TrainingConfig(dice_weight=2.0, bce_weight=3.0))
    assert float(found) == pytest.approx(3 * -log(0.8) / 2 + 2 * (1 - 1.6 / 1.8), rel=1e-4)
    assert float(masked_loss(torch.logit(p), labels, kept * 0, TrainingConfig())) == 0
    logits = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    ones = torch.ones_like(logits)
    whole = masked_loss(logits, ones, ones, TrainingConfig(dice_weight=0.0, bce_weight=1.0, pos_weight=2.0))
    assert torch.allclose(whole, binary_cross_entropy_with_logits(logits, ones, pos_weight=torch.tensor(2.0)))


@given(st.floats(-200, 200))
def test_entropy(z: float) -> None:
    found = float(entropy(torch.tensor(z, dtype=torch.float32)))
    p = 1 / (1 + exp(-z)) if abs(z) < 30 else 0.5
    assert found == pytest.approx(bernoulli(p) if abs(z) < 14 else 0.0, abs=2e-5)


# The feature term


def test_an_embedding_is_decoded_twice() -> None:
    """The first half is what the model says anyway; without dropping the second is the same, else not."""
    b = bench("fgasl")
    put(b.model, noisy(b.start))
    images = picture(2, 1).images
    with torch.no_grad():
        expected = b.model(images)
        for rate, alike in ((0.0, True), (0.5, False)):
            with decoded_twice(b.model, generator("k"), rate):
                found = b.model(images)
            assert torch.allclose(found[:2], expected, atol=1e-5)
            assert torch.allclose(found[2:], expected, atol=1e-5) == alike
        assert torch.equal(b.model(images), expected)


def test_the_feature_term_by_hand() -> None:
    """The refined embedding against that of an embedding with the same channels dropped."""
    losses = {}
    for weight in (0.0, 50.0):
        b = bench("fgasl", {"feature_weight": weight})
        work = b.work(None, 5, shared=noisy(b.start))
        losses[weight] = step_of(b, work, Teachers(work), picture(2, 1))
    images, seen = picture(2, 1).images, []
    rng = generator(0, "a", 5, "strong", 1)

    def drop(_: Any, __: Any, embedding: Tensor) -> Tensor:
        stays = torch.from_numpy(rng.random(tuple(embedding.shape[:2])) >= 0.3).float()
        return embedding * stays[:, :, None, None] / 0.7

    b.model.get_submodule("detail").register_forward_hook(lambda _, __, said: seen.append(said))
    with torch.no_grad():
        b.model(images)
        b.model.get_submodule("vision_encoder").register_forward_hook(drop)
        b.model(images)
    expected = 50 * float((seen[0] - seen[1]).square().mean())
    assert losses[50.0] - losses[0.0] == pytest.approx(expected, rel=1e-3) and expected > 1e-3


def test_another_model_has_no_embedding_to_change() -> None:
    method = Method()
    with pytest.raises(UserError, match="feature_weight: needs a Segment Anything"):
        method._seen_twice(replace(bench("fgasl").work(), model=torch.nn.Linear(1, 1)), torch.zeros(1), generator("k"))


# The teachers


def test_the_running_average_goes_on_from_round_to_round() -> None:
    """One step each: e <- 0.9 e + 0.1 w after it; e is what was received in the first round, then what was kept."""
    b = bench("fgasl", {"ema_decay": 0.9, **ALONE}, replace(bench("fgasl").training, local_steps=1))
    first, second = noisy(b.start, 1), noisy(b.start, 2)
    work = b.work(Half(), 0, shared=first)
    outcome = b.method.train(work)
    trained = b.method.split(work)[0]
    name = b.shared[-1]
    kept = without_prefix("ema", outcome.private)
    assert set(kept) == set(b.shared)
    assert torch.allclose(kept[name], 0.9 * first[name] + 0.1 * trained[name], atol=1e-6)
    work = b.work(Half(), 1, shared=second, private=outcome.private)
    later = b.method.train(work)
    trained = b.method.split(work)[0]
    assert torch.allclose(later.private[f"ema.{name}"], 0.9 * kept[name] + 0.1 * trained[name], atol=1e-6)
    assert float(later.private["threshold"]) > float(outcome.private["threshold"]) > 0


def test_the_threshold_by_hand() -> None:
    """The median of the labelled pixels' entropies; at first a tenth of it, since nothing is sure at first."""
    teachers = Teachers(bench("fgasl").work())
    logits = torch.logit(torch.tensor([0.5, 0.9, 0.99, 0.7])).reshape(1, 1, 2, 2)
    valid = torch.tensor([[[[0.0, 1.0], [1.0, 1.0]]]])
    teachers.learn_threshold(logits, valid, 0.5, 0.9)
    assert float(teachers.threshold) == pytest.approx(0.1 * bernoulli(0.9), rel=1e-4)
    teachers.learn_threshold(logits, valid, 1.0, 0.9)
    assert float(teachers.threshold) == pytest.approx(0.09 * bernoulli(0.9) + 0.1 * bernoulli(0.7), rel=1e-4)
    before = teachers.threshold
    teachers.learn_threshold(logits, 0 * valid, 0.5, 0.9)
    assert teachers.threshold is before


def test_nothing_is_kept_that_the_teachers_doubt() -> None:
    """A threshold of nothing keeps nothing, one of log 2 all."""
    b = bench("fgasl")
    for theta, share in ((0.0, 0.0), (0.7, 1.0)):
        teachers = Teachers(b.work(None, 0, private={"threshold": torch.tensor(theta)}))
        assert teachers.labels(picture(2, 1).images)[1].mean() == share == teachers.kept_share


def test_unlabelled_images_move_the_model() -> None:
    """With all pseudo labels kept, weights go elsewhere than without their loss; what is reported is their share."""
    found = []
    for weight in (0.0, 1.0):
        b = bench("fgasl", {"unlabelled_weight": weight, "threshold_decay": 0.99, **ALONE})
        private = {"threshold": torch.tensor(50.0)}
        outcome = b.method.train(work := b.work(Half(), 3, shared=noisy(b.start), private=private))
        found.append(b.method.split(work)[0])
        assert outcome.metrics["kept"] == 1 and set(outcome.metrics) == set(b.method.reports)
    assert not equal(*found)


# The server


def test_a_gap_is_the_divergence_from_what_was_received() -> None:
    """None where nothing was learned; else that of all training tiles, one batch after the other."""
    b = bench("fgasl")
    received = noisy(b.start)
    work = b.work(Half(), 0, shared=received)
    assert float(gap(work)) == pytest.approx(0, abs=1e-7)
    put(b.model, trained := noisy(received, 4, 0.02))
    found, total = float(gap(work)), []
    with torch.no_grad():
        for batch in Half().batches(3, 2, (0, "a", 0, "gap")):
            said = []
            for state in (received, trained):
                put(b.model, state)
                said.append(b.model(batch.images).double().sigmoid())
            p, q = said
            total.append(float((p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()).mean()))
    assert found == pytest.approx(sum(total) / 3, rel=1e-3) and found > 1e-5


def an_update(site: str, value: float, gap: float, index: int = 0) -> Update:
    return Update(site, index, {"w": torch.tensor([float(value)])}, {"gap": torch.tensor(gap)}, 7, {})


def test_two_rounds_at_the_server_by_hand() -> None:
    """The first mean is uniform whatever the gaps; they count in the second, and fade with the rounds."""
    method = Method(Options(share_step=0.2))
    _, memory = method.plan(Experiment(training=TrainingConfig(rounds=4)), {"a": {}, "b": {}})
    server = method.aggregate(Server({"w": torch.zeros(1)}, memory), [an_update("a", 1, 0.5), an_update("b", 3, 0.1)])
    assert float(server.shared["w"]) == pytest.approx(2.0)
    raised = (0.5 + 0.2, 0.5 + 0.2 * 0.2)
    shares = [share / sum(raised) for share in raised]
    assert [float(server.memory[f"share.{site}"]) for site in "ab"] == pytest.approx(shares)
    assert server.metrics["share.a"] == pytest.approx(shares[0])
    server = method.aggregate(server, [an_update("a", 1, 0.1, 1), an_update("b", 3, 0.4, 1)])
    assert float(server.shared["w"]) == pytest.approx(shares[0] + 3 * shares[1])
    raised = (shares[0] + 0.2 * 0.75 * 0.25, shares[1] + 0.2 * 0.75)
    assert float(server.memory["share.b"]) == pytest.approx(raised[1] / sum(raised))
    alone = method.aggregate(server, [an_update("b", 5, 0.4, 1)])
    assert float(alone.shared["w"]) == 5 and alone.memory["share.a"] < server.memory["share.a"]


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 10)), min_size=1, max_size=6), st.floats(0, 1))
def test_shares_stay_a_distribution(sites: list[tuple[float, float]], step: float) -> None:
    """And the order of the shares' growth is that of the gaps."""
    total = sum(share for share, _ in sites) or 1.0
    shares = {str(i): share / total or 1e-3 for i, (share, _) in enumerate(sites)}
    moved = next_shares(shares, {str(i): size for i, (_, size) in enumerate(sites)}, step)
    assert sum(moved.values()) == pytest.approx(1) and all(0 <= share <= 1 for share in moved.values())
    assert next_shares({"a": 0.5, "b": 0.5}, {}, step) == {"a": 0.5, "b": 0.5}


# In a run


def test_a_run_draws_unlabelled_images(tmp_path: Path) -> None:
    """The method asks for them, others do not, and n_k counts what training draws from."""
    tiny.make_sites(tmp_path)
    for method, unlabelled in (("fgasl", True), ("fedavg", False)):
        prepared = prepare(tiny.experiment(tmp_path, method, data={"labelled": 0.3}))
        site = next(site for site in prepared.sites if site.name == "aster")  # two patients of two images in train
        there = next(site.batches(1, 4, ("k",))).valid.flatten(1).any(dim=1).tolist()
        assert there == ([True, False] * 2 if unlabelled else [True] * 4)
        assert site.samples("train") == (4 if unlabelled else 2)


@pytest.mark.parametrize(
    "options",
    [
        {"unlabelled_weight": -1.0},
        {"feature_weight": float("nan")},
        {"share_step": -0.1},
        {"drop_rate": 1.0},
        {"ema_decay": 1.0},
        {"threshold_decay": -0.1},
        {"quantile_start": 1.1},
        {"quantile_end": -0.1},
    ],
)
def test_options_that_cannot_be_right(options: dict[str, float]) -> None:
    with pytest.raises(UserError, match=rf"method.*{next(iter(options))}"):
        Method(Options(**options))
