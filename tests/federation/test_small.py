"""Small updates: what the server makes of them, what it refuses by name, and that nothing is lost for good."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from safetensors.torch import save

from federation.hand import HandMade, loop, start, template, update
from federation.test_rounding import bound
from sammit.config import Experiment, TrainingConfig
from sammit.errors import UserError
from sammit.federation.memory import PrivateMemory
from sammit.federation.messages import decode, describe, encode
from sammit.federation.pressing import opened, pressed
from sammit.federation.rounding import FORMS
from sammit.federation.small import SmallUpdates, left_unsent, received
from sammit.federation.worker import Backbone, Worker
from sammit.geometry import View
from sammit.methods.base import Method
from sammit.vocabulary import Done, Order, SmallUpdate, State, Update

INT8 = SmallUpdates(FORMS["int8"], 1.0, 0)
ORDER = Order("train", "aster", 3, template())

every_form = pytest.mark.parametrize("form", FORMS)
shares = pytest.mark.parametrize("share", [1.0, 0.3, 0.05])

SHAPES = st.just(()) | array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=9)
NUMBERS = st.floats(-(2.0**120), 2.0**120, width=32) | st.sampled_from([0.0, 2**-149, -(2**-140), 2.0**120, 1.0])


def of(**training: Any) -> SmallUpdates:
    small = SmallUpdates.of(Experiment(training=TrainingConfig(**training)))
    assert small is not None
    return small


def across(small: SmallUpdates, said: Update, base: State, unsent: State | None = None) -> Update:
    """An update as the server has it, after the way through a message."""
    return small.in_full(decode(encode(small.packed(said, base, unsent or {}))), base)


@every_form
@settings(max_examples=40)
@given(data=st.data())
def test_the_server_has_every_number_within_the_bound(form: str, data: st.DataObject) -> None:
    """Of tensors of any shape, no numbers and one among them, and of any size; all else comes back as it was."""
    states: list[State] = [{}, {}]
    for name in ("a", "b"):
        numbers = arrays(np.float32, data.draw(SHAPES), elements=NUMBERS)
        first = data.draw(numbers)
        second = data.draw(arrays(np.float32, first.shape, elements=NUMBERS))
        states[0][name], states[1][name] = torch.from_numpy(first), torch.from_numpy(second)
    base, trained = states
    said = update(ORDER, tensors=trained, extras={"gap": torch.tensor(0.1)}, samples=7)
    small = of(updates=form)
    sent = small.packed(said, base, {})
    found = across(small, said, base)
    for name, wanted in trained.items():
        scales = opened(sent.tensors, base)[f"scales.{name}"]
        meant = (wanted.double() - base[name].double()).flatten().numpy()
        got = found.tensors[name]
        assert got.dtype == wanted.dtype and got.shape == wanted.shape
        off = (got.double() - wanted.double()).abs().flatten().numpy()
        last_digit = 2**-24 * got.abs().double().flatten().numpy() + 2**-149
        assert (off <= bound(meant, scales, FORMS[form]) + last_digit).all()
    assert {**vars(found), "tensors": 0} == {**vars(said), "tensors": 0}


@shares
@every_form
def test_what_is_left_out_is_sent_later(form: str, share: float) -> None:
    """After every round: what the server has, and what it has not yet, is what was meant, to float32's last digits.

    What it has not yet stays as small as in the first rounds, so that in the mean it fades.
    """
    small = of(updates=form, top_k=share)
    draw = torch.Generator().manual_seed(1)
    drift = {"w": torch.randn(40, 30, generator=draw), "b": torch.tensor(0.5)}
    base = {name: torch.zeros_like(tensor) for name, tensor in drift.items()}
    meant, unsent, left = dict(base), dict[str, torch.Tensor](), []
    for index in range(12 if share == 1 else 60):
        moves = {name: tensor + 0.1 * torch.randn(tensor.shape, generator=draw) for name, tensor in drift.items()}
        said = update(ORDER, round=index, tensors={name: base[name] + moves[name] for name in base})
        arrived = across(small, said, base, unsent)
        unsent = left_unsent(said, arrived, unsent, base)
        base, meant = arrived.tensors, {name: meant[name] + moves[name] for name in meant}
        for name in base:
            assert torch.allclose(base[name] + unsent[name], meant[name], rtol=1e-5, atol=1e-4)
        left.append(float(unsent["w"].abs().max()))
    assert left[-1] <= 2 * max(left[len(left) // 3 : 2 * len(left) // 3])
    limit = {"fp16": 1e-3, "bf16": 1e-2, "int8": 0.1}[form] if share == 1 else 3 / share
    assert left[-1] < limit
    assert share == 1 or float((base["w"] / meant["w"]).median()) > 0.3  # without it, most would never be sent


def test_without_memory_the_smaller_numbers_are_never_sent() -> None:
    """What the test above would see without the memory."""
    small = of(updates="int8", top_k=0.01)
    base = {"w": torch.zeros(1000)}
    for index in range(5):
        said = update(ORDER, round=index, tensors={"w": base["w"] + torch.linspace(0.1, 1, 1000)})
        base = across(small, said, base).tensors
    assert int((base["w"] != 0).sum()) == 10


def test_only_the_largest_travel() -> None:
    """A share of each tensor, at least one number of it."""
    small = of(updates="fp16", top_k=0.25)
    said = update(ORDER, tensors={"a.weight": torch.tensor([[0.0, 4, 1], [-8, 2, 1]]), "b.bias": torch.ones(4)})
    found = across(small, said, template())
    assert torch.allclose(found.tensors["a.weight"], torch.tensor([[0.0, 4, 0], [-8, 0, 0]]))
    assert torch.allclose(found.tensors["b.bias"], torch.tensor([1.0, 0, 0, 0]))


def test_draws_are_keyed() -> None:
    """By site, round and name: equal differences are rounded alike nowhere else, and in a repeated round they are."""
    same = torch.rand(2000, generator=torch.Generator().manual_seed(0))
    base = {"a": torch.zeros(2000), "b": torch.zeros(2000)}
    said = update(ORDER, tensors={"a": same, "b": same})

    def numbers(said: Update, seed: int = 0) -> State:
        return opened(replace(INT8, seed=seed).packed(said, base, {}).tensors, base)

    first = numbers(said)
    assert all(torch.equal(first[name], tensor) for name, tensor in numbers(said).items())
    others = [numbers(replace(said, site="birch")), numbers(replace(said, round=4)), numbers(said, 1)]
    for other in [first["numbers.b"], *(found["numbers.a"] for found in others)]:
        assert not torch.equal(first["numbers.a"], other)


# What the server refuses


def tampered(change: Callable[[State], Any], small: SmallUpdates = INT8) -> SmallUpdate:
    """A sound small update whose parts were changed."""
    sent = small.packed(update(ORDER), template(), {})
    parts = opened(sent.tensors, template())
    change(parts)
    return replace(sent, tensors=pressed(parts))


def put(name: str, tensor: torch.Tensor) -> Callable[[State], Any]:
    return lambda parts: parts.update({name: tensor})


def raw(name: str, data: bytes) -> SmallUpdate:
    sent = INT8.packed(update(ORDER), template(), {})
    return replace(sent, tensors={name: torch.frombuffer(bytearray(data), dtype=torch.uint8)})


SPARSE = SmallUpdates(FORMS["int8"], 0.5, 0)
SOUND = save(opened(INT8.packed(update(ORDER), template(), {}).tensors, template()))
BOMB = zlib.compress(bytes(10**7))
F32, I8 = torch.float32, torch.int8
REFUSED = {
    "undeclared tensor 'c.weight'": tampered(put("numbers.c.weight", torch.zeros(1, dtype=I8))),
    "undeclared tensor 'secret'": tampered(put("secret", torch.zeros(1))),
    "undeclared tensor 'a.weight'": tampered(put("places.a.weight", torch.zeros(1, dtype=torch.uint8))),
    "did not send the shared tensor 'b.bias'": tampered(lambda parts: parts.pop("scales.b.bias")),
    "did not send the shared tensor 'a.weight'": tampered(lambda parts: parts.pop("numbers.a.weight")),
    r"numbers of 'b.bias' as torch.int8 \(5,\), not torch.int8 \(4,\)": tampered(
        put("numbers.b.bias", torch.zeros(5, dtype=I8))
    ),
    "numbers of 'b.bias' as torch.float32": tampered(put("numbers.b.bias", torch.zeros(4))),
    r"\(2,\) scales of 'b.bias', not 1": tampered(put("scales.b.bias", torch.ones(2))),
    "a scale of 'b.bias' that is negative": tampered(put("scales.b.bias", torch.tensor([-1.0]))),
    "a scale of 'a.weight' that is .*NaN": tampered(put("scales.a.weight", torch.tensor([torch.nan]))),
    "a scale of 'a.weight' that is .*infinite": tampered(put("scales.a.weight", torch.tensor([torch.inf]))),
    "NaN or infinity in 'a.weight'": tampered(put("scales.a.weight", torch.tensor([3e38]))),
    "cannot be read": raw("plain", b"no such thing"),
    r"cannot be read \(Error -3": raw("deflated", b"no such thing"),
    "cut short": raw("deflated", zlib.compress(SOUND)[:-9]),
    "more than 2,.* bytes, which none can have": raw("deflated", BOMB),
    "more than 2,.* bytes, which none": raw("plain", bytes(10**5)),
    "that cannot be read$": raw("numbers", SOUND),
    "an update in full; training.updates says otherwise": update(ORDER),
    "an update for round 2": replace(INT8.packed(update(ORDER), template(), {}), round=2),
    "claims 0 samples": replace(INT8.packed(update(ORDER), template(), {}), samples=0),
    "undeclared tensor 'age'": replace(INT8.packed(update(ORDER), template(), {}), extras={"age": torch.ones(1)}),
    "undeclared number 'age'": replace(INT8.packed(update(ORDER), template(), {}), metrics={"age": 71}),
    "with Done": Done("aster", 3),
}
REFUSED_SPARSE = {
    "places of 'b.bias' that are outside": tampered(put("places.b.bias", torch.tensor([1], dtype=torch.uint8)), SPARSE),
    "places of 'a.weight' that are .* not as many": tampered(
        put("places.a.weight", torch.tensor([255 - 3], dtype=torch.uint8)), SPARSE
    ),
    "did not send the shared tensor 'a.weight'": tampered(lambda parts: parts.pop("places.a.weight"), SPARSE),
}


def reason(sent: Any, **training: Any) -> str:
    """Why the round loop does not take a reply of one site, whose neighbour's it does."""
    training = {"updates": "int8", "min_sites": 1, **training}
    small = SmallUpdates.of(Experiment(training=TrainingConfig(**training)))
    assert small is not None

    def sound(order: Order) -> Any:
        return small.packed(update(order, 2.0), order.tensors, {})

    transport = HandMade({"aster": lambda order: sent, "birch": sound})
    progress = loop(transport, ("aster", "birch"), **training)._train_round(replace(start(), round=3))
    assert torch.allclose(progress.server.shared["b.bias"][:2], torch.full((2,), 2.0))
    return str(progress.line["failed"]["aster"])


@pytest.mark.parametrize("why", REFUSED)
def test_refused(why: str) -> None:
    """By name, and the round goes on without it."""
    import re

    assert re.search(why, reason(REFUSED[why]))


@pytest.mark.parametrize("why", REFUSED_SPARSE)
def test_refused_for_its_places(why: str) -> None:
    import re

    assert re.search(why, reason(REFUSED_SPARSE[why], top_k=0.5))


def test_a_small_update_is_refused_where_none_is_asked_for() -> None:
    with pytest.raises(UserError, match="answered a training order with SmallUpdate"):
        loop(HandMade({"aster": lambda order: INT8.packed(update(order), order.tensors, {})}), ("aster",)).run(start())


@settings(max_examples=40)
@given(data=st.data())
def test_no_bytes_do_harm(data: st.DataObject) -> None:
    """A small update with a few bytes changed is read, or refused in one line."""
    blob = bytearray(SOUND)
    for place in data.draw(st.lists(st.integers(0, len(blob) - 1), min_size=1, max_size=4)):
        blob[place] = data.draw(st.integers(0, 255))
    reply = received(raw("plain", bytes(blob)), ORDER, template(), INT8)
    if isinstance(reply, Update):
        assert {name: t.shape for name, t in reply.tensors.items()} == {n: t.shape for n, t in template().items()}
    else:
        assert "\n" not in str(vars(reply)["reason"])


def test_the_site_looks_at_what_the_server_will_make_of_it(tmp_path: Path) -> None:
    """Numbers that are finite, but not once they were rounded: they do not leave, and nothing is kept of them."""
    model = torch.nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[-0.95e38, 0.0]]))
    site: Any = SimpleNamespace(name="aster")
    experiment = Experiment(training=TrainingConfig(updates="bf16"))
    backbone, memory = Backbone.of(model, ["weight"]), PrivateMemory(tmp_path)
    worker = Worker(site, View("whole", 32), Method(), backbone, memory, experiment)
    order = Order("train", "aster", 3, dict(backbone.start))
    said = update(order, tensors={"weight": torch.tensor([[3.4e38, 3.4012e38]])})
    worker._check(said)
    with pytest.raises(UserError, match="NaN or infinity in 'weight'"):
        worker._as_sent(said, order, {})


# As a message


def test_fewer_bytes_in_each_form() -> None:
    """Of a tensor large enough: nearly a half and a quarter of the bytes, a fiftieth of them by one in a hundred."""
    draw = torch.Generator().manual_seed(0)
    base = {"w": torch.randn(300, 400, generator=draw)}
    said = update(ORDER, tensors={"w": base["w"] + 0.01 * torch.randn(300, 400, generator=draw)})
    full = len(encode(said))
    for training, most in [
        ({"updates": "fp16"}, 0.51),
        ({"updates": "bf16"}, 0.45),
        ({"updates": "int8"}, 0.26),
        ({"updates": "int8", "top_k": 0.1}, 0.05),
        ({"updates": "int8", "top_k": 0.01}, 0.01),
    ]:
        assert len(encode(of(**training).packed(said, base, {}))) < most * full, training


def test_the_lossless_pass_is_kept_where_it_pays() -> None:
    noise = torch.randint(0, 256, (5000,), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    assert set(pressed({"x": torch.zeros(5000)})) == {"deflated"} and set(pressed({"x": noise})) == {"plain"}


def test_a_small_update_can_be_described() -> None:
    sent = INT8.packed(update(ORDER), template(), {})
    assert describe(sent)["bytes"] == len(encode(sent)) and describe(sent)["numbers"]["samples"] == 1


def test_settings_that_cannot_be() -> None:
    for wrong, match in [({"top_k": 0.0}, "above 0"), ({"top_k": 0.5}, "1 for training.updates = 'fp32'")]:
        with pytest.raises(UserError, match=match):
            TrainingConfig(**wrong).check()  # type: ignore[arg-type]
    TrainingConfig(updates="bf16", top_k=0.5).check()
    assert SmallUpdates.of(Experiment()) is None
