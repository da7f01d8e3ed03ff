"""Ditto on squares: the global model is federated averaging's, the second one lies between it and the site."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from methods.conftest import TRAINING, Pictures, bench, equal
from methods.squares import BODY, HEAD, PLAIN, Federation, on_squares, two_squares
from sammit.errors import UserError
from sammit.methods import base
from sammit.methods.ditto import Method, Options
from sammit.methods.state import take, without_prefix

TWICE = replace(PLAIN, local_steps=2 * PLAIN.local_steps)


def test_the_global_model_is_fedavgs_on_its_share_of_the_steps(tmp_path: Path) -> None:
    """Bit for bit: the second model leaves no trace in what travels."""
    ditto = Federation(on_squares(Method()), two_squares(), tmp_path / "ditto", TWICE).run(5)
    fedavg = Federation(on_squares(base.Method()), two_squares(), tmp_path / "fedavg").run(5)
    assert ditto.shared == fedavg.shared and ditto.shared[BODY] != 0


def test_on_a_segment_anything_too() -> None:
    """Bit for bit, under AdamW, from whatever second model."""
    found = []
    for name, steps in (("ditto", 4), ("fedavg", 2)):
        b = bench(name, None, replace(TRAINING, local_steps=steps))
        private = b.method.train(b.work()).private
        work = b.work(None, 1, private=private)
        b.method.train(work)
        found.append(b.method.split(work)[0])
    assert equal(*found)


def test_the_second_model_by_hand(tmp_path: Path) -> None:
    """Two rounds: v goes on from where it was, pulled to what the site was sent, body and head alike."""
    pull, steps = 0.5, 2
    run = Federation(on_squares(Method(Options(pull, own_share=0.4))), two_squares(), tmp_path)
    expected = {}
    for site in run.sites:
        own, sent = 0.0, 0.0
        for index in range(2):
            for _ in range(steps):
                own -= PLAIN.lr * (site.a * (2 * own - site.b) + pull * (own - sent))
            if index == 0:
                walks = [s.b / 2 * (1 - (1 - 2 * PLAIN.lr * s.a) ** 3) for s in run.sites]
                sent = sum(walks) / 2
        expected[site.name] = own
    server = run.run(2)
    for site in run.sites:
        own_state = without_prefix("own", run.private(site.name))
        assert [float(own_state[name]) for name in (BODY, HEAD)] == pytest.approx([expected[site.name]] * 2)
        assert run.answer(site.name, "personal", server.shared) == pytest.approx(2 * expected[site.name])
        assert [stage for stage, _, _ in site.seen] == (["train"] * 3 + ["own"] * 2) * 2


def test_the_second_model_lies_between_the_site_and_the_global_one(tmp_path: Path) -> None:
    """x = 2 v: least where 2 a (x - b) + lambda (x - x_global) = 0; and the worker loads it."""
    run = Federation(on_squares(Method(Options(pull=1.0))), two_squares(), tmp_path, TWICE)
    server = run.run(60)
    center = float(server.shared[BODY] + server.shared[HEAD])
    for site in run.sites:
        expected = (2 * site.a * site.b + center) / (2 * site.a + 1)
        assert run.answer(site.name, "personal", server.shared) == pytest.approx(expected, abs=1e-3)
        assert run.answer(site.name, "global", server.shared) == pytest.approx(center)


def test_without_a_pull_it_is_local_training(tmp_path: Path) -> None:
    """And with all steps its own the global model does not move."""
    run = Federation(on_squares(Method(Options(pull=0.0, own_share=1.0))), two_squares(), tmp_path)
    server = run.run(3)
    for site in run.sites:
        alone = site.b * (1 - (1 - 2 * PLAIN.lr * site.a) ** 15)
        assert run.answer(site.name, "personal", server.shared) == pytest.approx(alone)
    assert float(server.shared[BODY]) == 0


@pytest.mark.parametrize(("share", "own"), [(0.0, 0), (0.25, 1), (0.5, 2), (1.0, 4)])
def test_both_models_take_the_rounds_steps(share: float, own: int) -> None:
    b, site = bench("ditto", {"own_share": share}), Pictures()
    outcome = b.method.train(b.work(site))
    assert site.stages == ["train"] * (4 - own) + ["own"] * own
    assert outcome.metrics["steps"] == 4


def test_moments_of_the_two_models_are_kept_apart() -> None:
    b = bench("ditto", {"own_share": 0.25}, replace(TRAINING, optimiser_state="keep"))
    private = b.method.train(b.work()).private
    again = b.method.train(b.work(None, 1, private=private)).private
    name = b.shared[0]
    assert float(again[f"optimiser.{name}|step"]) == 6 and float(again[f"own_optimiser.{name}|step"]) == 2
    first, second = (again[f"{kind}.{name}|exp_avg"] for kind in ("optimiser", "own_optimiser"))
    assert not torch.equal(first, second)


def test_the_second_model_is_not_what_is_sent() -> None:
    b = bench("ditto")
    work = b.work()
    own = without_prefix("own", b.method.train(work).private)
    sent = take(b.model, b.shared)
    assert own.keys() == sent.keys() and not any(torch.equal(own[n], t) for n, t in sent.items() if t.numel() > 16)


@pytest.mark.parametrize("options", [Options(pull=-1), Options(own_share=1.1)])
def test_options_that_cannot_be_right(options: Options) -> None:
    with pytest.raises(UserError, match=r"method\.(pull|own_share)"):
        Method(options)
