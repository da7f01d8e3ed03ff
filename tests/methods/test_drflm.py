"""DRFLM: the distribution over sites and the mixing of images, by hand."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from math import exp
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from methods.conftest import Bench, bench, equal, picture
from methods.squares import BODY, HEAD, PLAIN, Federation, on_squares, two_squares
from sammit.config import Experiment
from sammit.errors import UserError
from sammit.methods.base import Server
from sammit.methods.drflm import Method, Options, next_shares
from sammit.randomness import generator, key_to_seed
from sammit.vocabulary import Update


def drflm(**options: Any) -> Bench:
    return bench("drflm", options, adapter=("lora",))


def shares(**losses: float) -> dict[str, float]:
    """From a quarter each of a, b, c, d, with the losses that were heard."""
    return next_shares(dict.fromkeys("abcd", 0.25), losses, 2.0)


# The server


def test_shares_follow_the_losses_by_hand() -> None:
    """q_k e^{gamma l_k} over their sum."""
    found = shares(a=0.1, b=0.2, c=0.3, d=0.4)
    risen = [exp(2 * loss) for loss in (0.1, 0.2, 0.3, 0.4)]
    assert list(found.values()) == pytest.approx([value / sum(risen) for value in risen])


def test_a_silent_site_keeps_its_share() -> None:
    found = shares(a=0.5, c=1.0)
    assert found["b"] == found["d"] == 0.25
    assert found["a"] + found["c"] == pytest.approx(0.5) and found["c"] / found["a"] == pytest.approx(exp(2 * 0.5))
    assert shares() == dict.fromkeys("abcd", 0.25)


@given(st.lists(st.floats(-1e4, 1e4), min_size=4, max_size=4), st.floats(0, 1e3))
def test_shares_stay_a_distribution(losses: list[float], rate: float) -> None:
    """For any losses, however large; the worst site never loses."""
    found = next_shares(dict.fromkeys("abcd", 0.25), dict(zip("abcd", losses, strict=True)), rate)
    assert sum(found.values()) == pytest.approx(1) and all(0 <= share <= 1 for share in found.values())
    assert found["abcd"[losses.index(max(losses))]] >= 0.25 - 1e-9


def test_the_mean_is_by_the_shares_before_they_move() -> None:
    """p = 0.8 q + 0.2 / 2 = (0.66, 0.34) for q = (0.7, 0.3); sizes count for nothing."""
    method = Method(Options(floor=0.2, rate=1.0))
    memory = {f"q.{site}": torch.tensor(share, dtype=torch.float64) for site, share in (("a", 0.7), ("b", 0.3))}
    updates = [
        Update(site, 0, {"w": torch.tensor(value)}, {"received_loss": torch.tensor(loss)}, samples, {})
        for site, value, loss, samples in (("a", 1.0, 0.5, 1), ("b", 3.0, 1.0, 99))
    ]
    server = method.aggregate(Server({"w": torch.tensor(0.0)}, memory), updates)
    assert float(server.shared["w"]) == pytest.approx(0.66 * 1 + 0.34 * 3)
    risen = 0.7 * exp(0.5), 0.3 * exp(1.0)
    assert float(server.memory["q.a"]) == pytest.approx(risen[0] / sum(risen))
    assert server.metrics["q.b"] == pytest.approx(risen[1] / sum(risen))


def test_all_sites_count_alike_at_first() -> None:
    _, memory = Method().plan(Experiment(), {"a": {}, "b": {}, "c": {}})
    assert list(memory) == ["q.a", "q.b", "q.c"] and [float(share) for share in memory.values()] == [1 / 3] * 3


# The site


def test_the_loss_that_is_told_is_of_the_received_model(tmp_path: Path) -> None:
    """a / 2 b^2 at 0, before the first step; the mean over the batches."""
    run = Federation(on_squares(Method()), two_squares(), tmp_path)
    run.run(1)
    told = [float(update.extras["received_loss"]) for update in run.updates]
    assert told == pytest.approx([site.a / 2 * site.b**2 for site in run.sites])


def test_the_worst_site_is_served_best(tmp_path: Path) -> None:
    """Least maximum of x^2 / 2 and 2 (x - 1)^2: x = 2 / 3, where both losses are equal; FedAvg comes to 0.6."""
    server = Federation(on_squares(Method(Options(floor=0.0, rate=0.5))), two_squares(), tmp_path).run(100)
    assert float(server.shared[BODY] + server.shared[HEAD]) == pytest.approx(2 / 3, abs=2e-3)


def test_mixed_images_by_hand() -> None:
    """One step: the loss of the mixed images to both truths, each by its share."""
    b = drflm()
    work = b.work(training=replace(b.training, local_steps=1))
    batch = picture(2, key_to_seed(0, "a", 0, "train", 0))
    draw = generator(0, "a", 0, "mixup", "train", 0)
    share, order = float(draw.beta(0.2, 0.2)), draw.permutation(2).tolist()
    with torch.no_grad():
        logits = b.model(share * batch.images + (1 - share) * batch.images[order])
        other = replace(batch, truth=batch.truth[order], valid=batch.valid[order])
        losses = [float(b.method.segmentation(work, logits, truth)) for truth in (batch, other)]
    outcome = b.method.train(work)
    assert outcome.metrics["loss"] == pytest.approx(share * losses[0] + (1 - share) * losses[1], rel=1e-5)


def test_every_step_has_a_draw_of_its_own() -> None:
    keys = [(0, site, index, "mixup", "train", step) for site, index, step in product("ab", (0, 1), (0, 1))]
    assert len({float(generator(*key).beta(0.2, 0.2)) for key in keys}) == len(keys)


def test_without_mixing_a_site_trains_as_under_fedavg() -> None:
    """Bit for bit; the measured batches leave no trace."""
    found = []
    for b in (drflm(mixup=0.0), bench("fedavg", None, adapter=("lora",))):
        work = b.work()
        b.method.train(work)
        found.append(b.method.split(work)[0])
    assert equal(*found)
    mixed = drflm()
    work = mixed.work()
    mixed.method.train(work)
    assert not equal(mixed.method.split(work)[0], found[0])


@pytest.mark.parametrize("count", [1, 3])
def test_batches_that_are_measured_are_no_steps(tmp_path: Path, count: int) -> None:
    run = Federation(on_squares(Method(Options(loss_batches=count))), two_squares(), tmp_path)
    run.run(1)
    for site, update in zip(run.sites, run.updates, strict=True):
        assert [stage for stage, *_ in site.seen] == ["received"] * count + ["train"] * PLAIN.local_steps
        assert update.metrics["steps"] == PLAIN.local_steps


@pytest.mark.parametrize(
    "options",
    [{"mixup": -0.1}, {"rate": -1.0}, {"rate": float("nan")}, {"floor": 1.1}, {"floor": -0.1}, {"loss_batches": 0}],
)
def test_options_that_cannot_be_right(options: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=rf"method.*{next(iter(options))}"):
        Method(Options(**options))
