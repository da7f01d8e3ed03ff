"""What the server refuses, and what a message keeps."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from federation.hand import template, update
from sammit.errors import UserError
from sammit.federation.guard import check_declared, refusal
from sammit.federation.messages import decode, describe, encode
from sammit.vocabulary import Declared, Done, Failure, Judgement, Order, Update

ORDER = Order("train", "aster", 3, template())
DECLARED = (
    Declared("gap", (), "float32", "difference of losses"),
    Declared("control.", None, "float32", "control variates"),
)

REPORTS = ("loss", "steps")


def changed(name: str, tensor: torch.Tensor | None) -> Update:
    """A sound update with one tensor put in, replaced or (None) left out."""
    tensors = {**update(ORDER).tensors, name: tensor}
    return update(ORDER, tensors={key: value for key, value in tensors.items() if value is not None})


REFUSED = {
    "undeclared tensor 'c.weight'": changed("c.weight", torch.zeros(1)),
    "did not send the shared tensor 'b.bias'": changed("b.bias", None),
    r"'b.bias' as torch.float32 \(5,\)": changed("b.bias", torch.zeros(5)),
    "'b.bias' as torch.float64": changed("b.bias", torch.zeros(4, dtype=torch.float64)),
    "NaN or infinity in 'a.weight'": changed("a.weight", torch.full((2, 3), float("nan"))),
    "NaN or infinity in 'b.bias'": changed("b.bias", torch.tensor([0, 0, float("inf"), 0])),
    "an update for round 2": update(ORDER, round=2),
    "claims 0 samples": update(ORDER, samples=0),
    "claims -4 samples": update(ORDER, samples=-4),
    "undeclared tensor 'secret'": update(ORDER, extras={"secret": torch.zeros(1)}),
    "'gap' in an update is float64": update(ORDER, extras={"gap": torch.zeros((), dtype=torch.float64)}),
    r"'gap' in an update is float32 \(2,\)": update(ORDER, extras={"gap": torch.zeros(2)}),
    "NaN or infinity in 'gap'": update(ORDER, extras={"gap": torch.tensor(float("nan"))}),
    "'loss', which is no number": update(ORDER, metrics={"loss": "patient 7"}),  # type: ignore[dict-item]
    "undeclared number 'age'": update(ORDER, metrics={"loss": 0.5, "age": 71}),
    "with Judgement": Judgement("aster", 3, "val", {"global": 0.5}),
    "the disk died": Failure("aster", 3, "the disk died"),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_refused(reason: str) -> None:
    """Each with a reason that says what is wrong."""
    import re

    assert re.search(reason, refusal(REFUSED[reason], 3, template(), DECLARED, REPORTS))


def test_a_sound_update_is_taken() -> None:
    """With and without declared extras."""
    extras = {"gap": torch.tensor(0.5), "control.a.weight": torch.zeros(2, 3)}
    assert refusal(update(ORDER), 3, template(), DECLARED, REPORTS) == ""
    assert refusal(update(ORDER, extras=extras), 3, template(), DECLARED, REPORTS) == ""


def test_undeclared_state_is_an_error_of_the_method() -> None:
    """A site's state is checked alike."""
    with pytest.raises(UserError, match="a site's state holds the undeclared tensor 'x'"):
        check_declared({"x": torch.zeros(1)}, DECLARED, "a site's state")


@pytest.mark.parametrize(("shape", "fits"), [((4, 3, 5), True), ((0, 3, 9), True), ((4, 2, 5), False), ((4, 3), False)])
def test_a_side_whose_length_is_left_open(shape: tuple[int, ...], fits: bool) -> None:
    """-1 in a declaration; the number of sides and the others are held to."""
    bank = (Declared("bank", (-1, 3, -1), "float32", "spectra"),)
    if fits:
        check_declared({"bank": torch.zeros(shape)}, bank, "a survey")
    else:
        with pytest.raises(UserError, match=r"'bank' in a survey .* declared as float32 \(-1, 3, -1\)"):
            check_declared({"bank": torch.zeros(shape)}, bank, "a survey")


NAMES = st.text(st.characters(codec="utf-8", exclude_categories=("C",)), min_size=1, max_size=12)
DTYPES = st.sampled_from([torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.bool])
SHAPES = st.lists(st.integers(0, 4), max_size=3).map(tuple)
TENSORS = st.builds(lambda shape, dtype: torch.randn(shape).mul(9).to(dtype), SHAPES, DTYPES)
STATES = st.dictionaries(NAMES, TENSORS, max_size=4)
NUMBERS = st.dictionaries(NAMES, st.floats(allow_nan=False) | st.integers(-9, 9), max_size=3)
MESSAGES = st.one_of(
    st.builds(
        Order, st.sampled_from(["train", "evaluate", "keep", "finish", "score"]), NAMES, st.integers(0, 99), STATES,
        STATES,
        NAMES, st.integers(-1, 99), NAMES, st.sampled_from(["train", "val", "test"]),
    ),
    st.builds(Update, NAMES, st.integers(0, 99), STATES, STATES, st.integers(1, 10**9), NUMBERS),
    st.builds(Judgement, NAMES, st.integers(0, 99), st.just("val"), NUMBERS),
    st.builds(Done, NAMES, st.integers(0, 99)),
    st.builds(Failure, NAMES, st.integers(0, 99), NAMES),
)  # fmt: skip


@given(MESSAGES)
@settings(max_examples=150, deadline=None)
def test_a_message_comes_back_as_it_was(message: Any) -> None:
    """Every kind, with any names, shapes and types."""
    back = decode(encode(message))
    assert type(back) is type(message)
    for name, value in vars(message).items():
        if name in ("tensors", "extras"):
            state = getattr(back, name)
            assert state.keys() == value.keys()
            assert all(state[k].dtype == t.dtype and torch.equal(state[k], t) for k, t in value.items())
        else:
            assert getattr(back, name) == value


def test_tensors_that_share_memory_can_be_sent() -> None:
    """The same tensor under two names, a transposed one, and a part of another."""
    whole = torch.arange(6.0).reshape(2, 3)
    state = {"one": whole, "two": whole, "turned": whole.T, "row": whole[1]}
    back = decode(encode(replace(ORDER, tensors=state, extras={"one": whole}))).tensors
    assert all(torch.equal(back[name], tensor) for name, tensor in state.items())


@pytest.mark.parametrize("data", [b"", b"x", b"\x02" + bytes(7) + b"{}", bytes(8) + b"{}"])
def test_bytes_without_a_message(data: bytes) -> None:
    """Refused, not guessed."""
    with pytest.raises((KeyError, ValueError)):
        decode(data)


def test_an_update_in_words() -> None:
    """Each tensor's shape, type and bytes; every number."""
    told = describe(update(ORDER, samples=7))
    assert told["tensors"]["a.weight"] == {"shape": [2, 3], "dtype": "float32", "bytes": 24}
    assert told["numbers"]["samples"] == 7
    assert told["bytes"] == len(encode(update(ORDER, samples=7)))
