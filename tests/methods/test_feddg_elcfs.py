"""FedDG-ELCFS: what a site tells of its images, whom it is sent to, and one episode by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from methods.conftest import TRAINING, Pictures, bench, equal
from methods.squares import BODY, HEAD, Federation, Square, on_squares, squared
from sammit.config import Experiment
from sammit.errors import UserError
from sammit.methods.base import Server
from sammit.methods.feddg_elcfs import BANK, Method, Options
from sammit.methods.spectra import low_amplitudes, restyled
from sammit.randomness import generator

SITES = ("a", "b", "c")
ONE_STEP = replace(TRAINING, local_steps=1)


def server(method: Method, sites: tuple[str, ...] = SITES) -> Server:
    """Before the first round."""
    _, memory = method.plan(Experiment(), {site: method.survey(Pictures(site)) for site in sites})
    return Server({}, memory)


def test_a_site_tells_the_square_and_no_more() -> None:
    """Images x channels x 3 x 3 numbers of the pictures that training would see."""
    told = Method(Options(images=5)).survey(Pictures("a"))
    assert {name: tuple(tensor.shape) for name, tensor in told.items()} == {BANK: (5, 3, 3, 3)}
    seen = torch.cat([batch.images for batch in Pictures("a").batches(5, 1, ("feddg_elcfs", "a", "spectra"))])
    assert torch.equal(told[BANK], low_amplitudes(seen, 1))
    assert tuple(Method(Options(images=1, band=0.1)).survey(Pictures("a"))[BANK].shape) == (1, 3, 7, 7)  # floor(3.2)


def test_a_site_is_sent_the_others_banks() -> None:
    """All of theirs and none of its own, in every round; alone it is sent none."""
    method = Method(Options(images=2))
    state = server(method)
    own = {site: method.survey(Pictures(site))[BANK] for site in SITES}
    for site in SITES:
        _, extras = method.orders(state, site)
        assert torch.equal(extras[BANK], torch.cat([own[other] for other in SITES if other != site]))
    assert method.orders(server(method, ("a",)), "a")[1] == {}


def test_looks_are_drawn_by_key() -> None:
    """By hand from the draws; another step, another draw; torch's own state is not touched."""
    b = bench("feddg_elcfs")
    assert isinstance(b.method, Method)
    bank = torch.rand(6, 3, 3, 3) * 50
    work = b.work(round_index=2)
    work.order.extras[BANK] = bank
    images = torch.rand(2, 3, 32, 32)
    before = torch.get_rng_state()
    found = [b.method._look_of_others(work, images, step) for step in (0, 0, 1)]
    rng = generator(0, "a", 2, "amplitudes", 0)
    chosen, share = rng.integers(6, size=2), rng.random((2, 1, 1, 1), dtype="float32")
    assert torch.equal(found[0], restyled(images, bank[torch.from_numpy(chosen)], torch.from_numpy(share)))
    assert torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("order", ["first", "second"])
def test_episodes_by_hand(tmp_path: Path, order: Any) -> None:
    """x = body + head under a / 2 (x - b)^2: g = a (x - b), x' = x - 2 eta g, then both move by 0.1 of the sum.

    The outer gradient is a (x' - b), in the second order times dx'/dx = 1 - 2 eta a.
    """
    method = Method(Options(images=1, inner_lr=0.05, order=order, contrast_weight=0))
    method.inner = squared  # type: ignore[method-assign]
    sites = [Square("flat", 0.5, 0.2), Square("steep", 1.0, 1.0, 3)]
    run = Federation(on_squares(method), sites, tmp_path)
    shared, ends, losses = run.run(1).shared, [], []
    for site in sites:
        x, loss = 0.0, 0.0
        for _ in range(5):
            g = site.a * (x - site.b)
            ahead = x - 2 * 0.05 * g
            loss += site.a / 2 * ((x - site.b) ** 2 + (ahead - site.b) ** 2) / 5
            chain = 1 - 2 * 0.05 * site.a if order == "second" else 1
            x -= 2 * 0.1 * (g + site.a * (ahead - site.b) * chain)
        ends.append(x)
        losses.append(loss)
    assert float(shared[BODY] + shared[HEAD]) == pytest.approx((ends[0] + 3 * ends[1]) / 4, rel=1e-5)
    assert [update.metrics["loss"] for update in run.updates] == pytest.approx(losses, rel=1e-5)
    assert [update.metrics["steps"] for update in run.updates] == [5, 5]


def test_the_inner_gradient_is_clipped(tmp_path: Path) -> None:
    """To 100: from a loss a thousand times as steep the step to theta' is inner_lr * 100."""
    method = Method(Options(images=1, inner_lr=0.001, contrast_weight=0))
    method.inner = lambda work, logits, batch: 1000 * logits.mean()  # type: ignore[method-assign]
    run = Federation(on_squares(method), [Square("a", 1.0, 0.0)], tmp_path)
    run.run(1)
    loss, x = 0.0, 0.0
    for _ in range(5):
        ahead = x - 2 * 0.1
        loss += (1000 * x + ahead**2 / 2) / 5
        x -= 2 * 0.1 * (1000 + ahead)
    assert run.updates[0].metrics["loss"] == pytest.approx(loss, rel=1e-4)


@pytest.mark.parametrize("model", [{}, {"head": "mix"}, {"name": "unet", "adapter": ()}, {"output_stride": 2}])
def test_every_model_has_features_to_contrast(model: dict[str, Any]) -> None:
    """With the contrast the step is another one; the U-Net too has a last level."""
    found = []
    for weight in (0.0, 0.1):
        b = bench("feddg_elcfs", {"contrast_weight": weight}, ONE_STEP, **model)
        work = b.work()
        b.method.train(work)
        found.append(b.method.split(work)[0])
    assert found[0].keys() == found[1].keys() and not equal(*found)


def test_a_model_without_known_features(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"method\.contrast_weight"):
        Federation(on_squares(Method(Options(images=1))), [Square("a", 1.0, 0.0)], tmp_path).run(1)


def test_second_order_goes_through_the_encoder() -> None:
    """Segment Anything's attention has to be differentiated twice; the numbers differ from the first order's."""
    shared = []
    for order in ("first", "second"):
        b = bench("feddg_elcfs", {"order": order, "inner_lr": 0.1}, ONE_STEP)
        work = b.work()
        b.method.train(work)
        shared.append(b.method.split(work)[0])
    assert not equal(*shared)


@pytest.mark.parametrize("options", [{"images": 0}, {"band": 0.0}, {"band": 0.6}, {"inner_lr": -1.0}])
def test_impossible_options(options: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="method: "):
        Method(Options(**options))
