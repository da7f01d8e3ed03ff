"""FedDA: the ring at the server, and a contest of encoder and discriminator against an independent one."""

from __future__ import annotations

from dataclasses import replace
from math import log
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from methods.conftest import TRAINING, bench, equal, noisy
from methods.squares import PLAIN, Federation, Square, on_squares, two_squares
from sammit.config import Experiment
from sammit.errors import UserError
from sammit.methods import base
from sammit.methods.base import Server, Work
from sammit.methods.discriminator import being_taken_for, new_discriminator, telling_apart
from sammit.methods.fedda import Method, Options
from sammit.methods.state import with_prefix, without_prefix
from sammit.vocabulary import Batch, Order, State, Update

BODY, HEAD = "vision_encoder.body", "mask_decoder.head"


def shared(value: float) -> State:
    return {BODY: torch.tensor([value]), HEAD: torch.tensor([10 * value])}


def updates(**values: float) -> list[Update]:
    return [Update(site, 0, shared(value), {}, 1, {}) for site, value in values.items()]


def ring(*sites: str, mode: Any = "cyclic") -> tuple[Method, Server]:
    method = Method(Options(mode=mode))
    return method, Server(shared(0.0), method.plan(Experiment(), {site: {} for site in sites})[1])


def neighbours(method: Method, server: Server) -> dict[str, float | None]:
    """Whose encoder each site is sent, by its number; nothing but the encoder is sent."""
    found: dict[str, float | None] = {}
    for site in ("a", "b", "c"):
        tensors, extras = method.orders(server, site)
        assert tensors is server.shared and set(extras) <= {f"neighbour.{BODY}"}
        found[site] = float(extras[f"neighbour.{BODY}"]) if extras else None
    return found


def test_the_ring() -> None:
    """Nobody at first; then the next one's, the last one's next being the first; the mean is FedAvg's."""
    method, server = ring("c", "a", "b")
    assert neighbours(method, server) == {"a": None, "b": None, "c": None}
    server = method.aggregate(server, updates(a=1, b=2, c=6))
    assert server.shared[BODY].item() == 3 and server.shared[HEAD].item() == 30
    assert neighbours(method, server) == {"a": 2, "b": 6, "c": 1}


def test_a_silent_site_is_stepped_over_until_it_answers() -> None:
    """Then its last encoder is sent; a site is never sent its own."""
    method, server = ring("a", "b", "c")
    server = method.aggregate(server, updates(a=1))
    assert neighbours(method, server) == {"a": None, "b": 1, "c": 1}
    server = method.aggregate(server, updates(b=2))
    assert neighbours(method, server) == {"a": 2, "b": 1, "c": 1}


def test_the_joint_mode_sends_and_keeps_nothing_more() -> None:
    method, server = ring("a", "b", "c", mode="joint")
    server = method.aggregate(server, updates(a=1, b=2, c=6))
    assert neighbours(method, server) == {"a": None, "b": None, "c": None}
    assert method.extras_down == () and not without_prefix("encoder", server.memory)
    assert Method().extras_down[0].name == "neighbour."


class Sight(nn.Module):
    """An encoder of one convolution and a head of another, one channel each."""

    def __init__(self) -> None:
        super().__init__()
        self.vision_encoder, self.mask_decoder = nn.Conv2d(3, 2, 1, bias=False), nn.Conv2d(2, 1, 1, bias=False)
        for layer in (self.vision_encoder, self.mask_decoder):
            nn.init.constant_(layer.weight, 0.3)

    def forward(self, images: Tensor) -> Tensor:
        said: Tensor = self.mask_decoder(self.vision_encoder(images))
        return said


SIGHT = ("vision_encoder.weight", "mask_decoder.weight")
TWO_STEPS = replace(PLAIN, local_steps=2, rounds=5)


class Colours(Square):
    """A site whose images have a colour each."""

    def batches(self, steps: int, batch_size: int, key: tuple[object, ...]) -> Any:
        for step in range(steps):
            draw = torch.Generator().manual_seed(step)
            yield Batch(torch.rand(2, 3, 1, 1, generator=draw), torch.ones(2, 1, 1, 1), torch.ones(2, 1, 1, 1))


def on_means(method: Method) -> Method:
    """The method with (x - 1)^2 / 2 for a segmentation loss."""
    method.segmentation = lambda work, logits, batch: (logits - batch.truth).square().mean() / 2  # type: ignore[method-assign]
    return method


def a_work(method: Method, other: State, private: State, round_index: int) -> Work:
    model = Sight()
    start = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    extras = with_prefix("neighbour", other) if method.options.mode == "cyclic" else {}
    order = Order("train", "a", round_index, start, extras)
    return Work(order, model, SIGHT, Colours("a", 1, 1), private, TWO_STEPS, 7)


def by_hand(other: Tensor | None, weight: float, start: State) -> tuple[State, State, float]:
    """Two rounds' steps written out: Adam's step of the discriminator, then plain descent of encoder and head.

    Returns the model's tensors, the discriminator's and the mean loss.
    """
    encoder, head = (torch.full(shape, 0.3, requires_grad=True) for shape in ((2, 3, 1, 1), (1, 2, 1, 1)))
    rival = new_discriminator(2, 7, "a")
    rival.load_state_dict(start or rival.state_dict())
    adam = torch.optim.Adam(rival.parameters(), lr=1e-4)
    total = 0.0
    for batch in Colours("a", 1, 1).batches(2, 2, ()):
        own = torch.nn.functional.conv2d(batch.images, encoder)
        target = torch.nn.functional.conv2d(batch.images, torch.full((2, 3, 1, 1), 0.3) if other is None else other)
        adam.zero_grad()
        softplus = torch.nn.functional.softplus
        ((softplus(rival(own.detach())).mean() + softplus(-rival(target.detach())).mean()) / 2).backward()
        adam.step()
        loss = (torch.nn.functional.conv2d(own, head) - 1).square().mean() / 2
        loss = loss + weight * softplus(-rival(own)).mean()
        for tensor, grad in zip((encoder, head), torch.autograd.grad(loss, (encoder, head)), strict=True):
            tensor.data -= 0.1 * grad
        total += float(loss.detach()) / 2
    named = dict(zip(SIGHT, (encoder.detach(), head.detach()), strict=True))
    return named, {name: t.detach() for name, t in rival.state_dict().items()}, total


@pytest.mark.parametrize("mode", ["cyclic", "joint"])
def test_a_contest_by_hand(mode: Any) -> None:
    """Round 2 of 5: the weight is half of the way from 0.1 to 0.5; the discriminator goes on from its last state."""
    method = on_means(Method(Options(mode=mode, first_weight=0.1, last_weight=0.5)))
    other = torch.tensor([[0.9, -0.2, 0.1], [-0.5, 0.4, 0.8]]).reshape(2, 3, 1, 1)
    before = {name: t + 0.1 for name, t in new_discriminator(2, 7, "other").state_dict().items()}
    work = a_work(method, {SIGHT[0]: other}, with_prefix("discriminator", before), 2)
    outcome = method.train(work)
    model, rival, loss = by_hand(other if mode == "cyclic" else None, 0.3, before)
    for name, tensor in method.split(work)[0].items():
        assert torch.allclose(tensor, model[name], atol=1e-6)
    for name, tensor in without_prefix("discriminator", outcome.private).items():
        assert torch.allclose(tensor, rival[name], atol=1e-6)
    assert outcome.metrics["loss"] == pytest.approx(loss, rel=1e-5) and outcome.metrics["steps"] == 2
    assert outcome.extras == {}


def test_without_weight_it_is_federated_averaging() -> None:
    """Bit for bit on Segment Anything: the discriminator's steps leave no trace in what travels."""
    found = []
    for name, options in (("fedavg", {}), ("fedda", {"first_weight": 0.0, "last_weight": 0.0, "mode": "joint"})):
        b = bench(name, options, replace(TRAINING, local_steps=2))
        work = b.work(shared=noisy(b.start))
        b.method.train(work)
        found.append(b.method.split(work)[0])
    assert equal(*found)


def test_encoders_that_see_alike_cannot_be_told_apart() -> None:
    """The least that can be is log 2; a discriminator is its site's own, and the same each time."""
    features = torch.randn(2, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    first, again, other = (new_discriminator(4, 0, site) for site in ("a", "a", "b"))
    assert equal(dict(first.named_parameters()), dict(again.named_parameters()))
    assert not equal(dict(first.named_parameters()), dict(other.named_parameters()))
    assert float(telling_apart(first, features, features).detach()) >= log(2)
    for parameter in first.parameters():
        nn.init.zeros_(parameter)
    assert float(telling_apart(first, features, features + 1).detach()) == pytest.approx(log(2))
    assert float(being_taken_for(first, features).detach()) == pytest.approx(log(2))


def test_a_round_without_another_encoder_is_plain_and_loses_nothing() -> None:
    """The discriminator of earlier rounds stays as it is."""
    method = on_means(Method())
    before = with_prefix("discriminator", dict(new_discriminator(2, 7, "a").state_dict()))
    work = a_work(method, {}, before, 0)
    outcome = method.train(work)
    assert outcome.metrics.keys() == {"loss", "steps"} and equal(dict(outcome.private), before)
    plain = on_means(base.Method())  # type: ignore[arg-type]
    same = a_work(method, {}, {}, 0)
    plain.train(same)
    assert equal(method.split(work)[0], plain.split(same)[0])


def test_a_model_without_an_encoder_that_trains(tmp_path: Path) -> None:
    method = on_means(Method())
    work = replace(a_work(method, {}, {}, 0), live=(SIGHT[1],))
    with pytest.raises(UserError, match="fedda needs an encoder that trains"):
        method.train(work)
    with pytest.raises(UserError, match="first_weight and last_weight"):
        Method(Options(first_weight=-1.0))


def test_a_federation_on_squares(tmp_path: Path) -> None:
    """Whose model never calls its encoder: in the first round, without a neighbour, FedAvg's numbers."""
    found = [
        Federation(on_squares(method), two_squares(), tmp_path / type(method).__module__).run(1).shared
        for method in (base.Method(), Method())
    ]
    assert found[0] == found[1]
