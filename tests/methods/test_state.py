"""Named tensors: averages by hand, names by whole components, fingerprints that miss nothing."""

from __future__ import annotations

import struct
from hashlib import sha256

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from sammit.methods.state import (
    PIECE,
    WeightedMean,
    copied,
    difference,
    fingerprint,
    first_not_finite,
    has_component,
    put,
    select,
    set_active,
    set_weight,
    squared_norm,
    take,
    with_prefix,
    without_prefix,
    zeros,
)
from sammit.vocabulary import State


def mean_of(*weighted: tuple[State, float]) -> State:
    total = WeightedMean()
    for state, weight in weighted:
        total.add(state, weight)
    return total.mean()


def some(seed: int, spread: float = 1.0) -> State:
    draw = torch.Generator().manual_seed(seed)
    return {"a.weight": torch.randn(3, 2, generator=draw) * spread, "b": torch.randn((), generator=draw)}


def test_a_weighted_mean_by_hand() -> None:
    """(1 * 2 + 3 * 6) / 4 = 5; (1 * 0 + 3 * 1) / 4 = 3 / 4: by n_k / n exactly, not by rounded shares."""
    found = mean_of(({"w": torch.tensor([2.0, 0.0])}, 1), ({"w": torch.tensor([6.0, 1.0])}, 3))
    assert found["w"].tolist() == [5.0, 0.75]
    thirds = mean_of(*[({"w": torch.tensor([float(k)])}, 1) for k in (0, 0, 1)])
    assert thirds["w"].tolist() == [torch.tensor(1 / 3).item()]


@given(st.integers(0, 999), st.integers(1, 2**29 - 1), st.sampled_from([1e-30, 1.0, 1e30]))
def test_the_mean_of_one_is_that_one_bit_for_bit(seed: int, weight: int, spread: float) -> None:
    state = some(seed, spread)
    found = mean_of((state, weight))
    assert all(torch.equal(found[name], state[name]) for name in state)


@given(st.integers(0, 99), st.lists(st.integers(1, 1000), min_size=2, max_size=6))
def test_the_mean_of_equals_is_that_one(seed: int, weights: list[int]) -> None:
    found = mean_of(*[(some(seed), weight) for weight in weights])
    assert all(torch.equal(found[name], tensor) for name, tensor in some(seed).items())


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=6))
def test_the_mean_is_the_definition_in_float64(weights: list[int]) -> None:
    states = [some(seed) for seed in range(len(weights))]
    found = mean_of(*zip(states, weights, strict=True))
    for name in states[0]:
        stacked = torch.stack([state[name].double() * w for state, w in zip(states, weights, strict=True)])
        assert torch.allclose(found[name].double(), stacked.sum(0) / sum(weights), rtol=1e-7, atol=0)


@pytest.mark.parametrize(("weights", "within"), [([7, 3, 1289], 0.0), ([0.1, 3, 2 / 3], 1.2e-7)])
def test_large_tensors_are_summed_in_pieces_to_the_same_numbers(weights: list[float], within: float) -> None:
    """Longer than a piece, not contiguous, and scalar, by hand in float64.

    Products with whole weights are exact there, so sums are the same bit for bit, whether or not the processor rounds
    product and sum in one.
    """
    draw = torch.Generator().manual_seed(0)
    states = [
        {"w": torch.randn(301, 2 * PIECE // 300, generator=draw).T, "s": torch.randn((), generator=draw)} for _ in "abc"
    ]
    found = mean_of(*zip(states, weights, strict=True))
    for name, tensor in found.items():
        total = states[0][name].double() * weights[0]
        for state, weight in zip(states[1:], weights[1:], strict=True):
            total = total + state[name].double() * weight
        wanted = (total / sum(weights)).float()
        assert tensor.shape == wanted.shape
        assert torch.allclose(tensor, wanted, atol=0, rtol=within)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_mean_keeps_the_type(dtype: torch.dtype) -> None:
    found = mean_of(({"w": torch.ones(2, dtype=dtype)}, 1), ({"w": torch.zeros(2, dtype=dtype)}, 1))
    assert found["w"].dtype == dtype and found["w"].tolist() == [0.5, 0.5]


def test_what_is_added_is_not_kept_hold_of() -> None:
    state, total = some(0), WeightedMean()
    total.add(state, 1)
    state["a.weight"].zero_()
    assert torch.equal(total.mean()["a.weight"], some(0)["a.weight"])


def test_nothing_added_and_nothing_shared() -> None:
    assert WeightedMean().mean() == {}
    assert mean_of(({}, 3), ({}, 4)) == {}


@pytest.mark.parametrize("other", [{}, {"a.weight": torch.zeros(3, 2)}, {**some(1), "c": torch.zeros(1)}])
def test_states_of_other_names_are_refused(other: State) -> None:
    """A tensor that one site lacks would be averaged with the wrong weight, in silence."""
    with pytest.raises(ValueError, match="same names"):
        mean_of((some(0), 1), (other, 1))


@pytest.mark.parametrize(
    ("name", "component", "has"),
    [
        ("fc1.weight", "fc1", True),
        ("fc10.weight", "fc1", False),
        ("body.fc1", "fc1", True),
        ("body.xfc1.weight", "fc1", False),
        ("layers.1.mixture.up", "mixture", True),
        ("layers.1.mixtures.up", "mixture", False),
        ("layers.10.up", "1", False),
        ("layers.1.up", "layers.1", False),
        ("", "fc1", False),
    ],
)
def test_a_component_is_whole(name: str, component: str, has: bool) -> None:
    assert has_component(name, component) == has
    assert select({name: torch.zeros(1)}, lambda n: has_component(n, component)).keys() == ({name} if has else set())


def test_prefixes_are_whole_too() -> None:
    state = some(0)
    assert with_prefix("personal", state).keys() == {"personal.a.weight", "personal.b"}
    assert without_prefix("personal", with_prefix("personal", state)) == state
    assert without_prefix("a", {"a.weight": state["b"], "ab.weight": state["b"], "a": state["b"]}).keys() == {"weight"}


def test_copies_have_a_memory_of_their_own() -> None:
    model = nn.Linear(2, 1)
    for copy in (take(model, ["weight"]), copied({"weight": model.weight})):
        assert not copy["weight"].requires_grad
        assert copy["weight"].data_ptr() != model.weight.data_ptr()


def test_put_writes_in_place_and_only_what_is_named() -> None:
    model = nn.Linear(2, 1)
    place, bias = model.weight.data_ptr(), model.bias.detach().clone()
    put(model, {"weight": torch.tensor([[1.0, 2.0]])})
    assert model.weight.tolist() == [[1.0, 2.0]] and model.weight.requires_grad
    assert model.weight.data_ptr() == place and torch.equal(model.bias, bias)
    with pytest.raises(KeyError, match="wieght"):
        put(model, {"wieght": torch.zeros(1, 2)})
    with pytest.raises(RuntimeError):
        put(model, {"weight": torch.zeros(1, 3)})


def test_a_known_fingerprint() -> None:
    """Names in order, each with type, shape and little-endian bytes: sites of another version must agree on it."""
    numbers = struct.pack("<2f", 1.0, 2.0)
    by_hand = sha256(b"v|torch.int64|()|" + bytes(8) + b"w|torch.float32|(2,)|" + numbers).hexdigest()
    assert fingerprint({"w": torch.tensor([1.0, 2.0]), "v": torch.tensor(0)}) == by_hand
    assert fingerprint({}) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"  # of no bytes


def test_a_fingerprint_sees_name_type_shape_and_every_bit() -> None:
    state = {"w": torch.tensor([[1.0, 2.0]]), "v": torch.tensor(0.0)}
    others = [
        {"w": torch.tensor([[1.0, 2.0]])},
        {"u": state["w"], "v": state["v"]},
        {"w": state["w"].double(), "v": state["v"]},
        {"w": state["w"].reshape(2, 1), "v": state["v"]},
        {"w": state["w"], "v": torch.tensor(-0.0)},
        {"w": torch.tensor([[1.0, 2.0000002]]), "v": state["v"]},
        {"w": state["w"].flip(1), "v": state["v"]},
    ]
    assert len({fingerprint(s) for s in [state, *others]}) == 1 + len(others)
    assert fingerprint(dict(reversed(state.items()))) == fingerprint(state)
    strided = torch.tensor([[1.0, 9.0], [2.0, 9.0]])[:, 0].reshape(1, 2)
    assert fingerprint({**state, "w": strided}) == fingerprint(state)
    assert fingerprint({"w": state["w"].bfloat16()}) != fingerprint({"w": state["w"].half()})


def test_the_first_tensor_that_is_not_finite() -> None:
    assert first_not_finite({"n": torch.tensor([1]), "w": torch.tensor([1.0])}) is None
    for bad in (float("nan"), float("inf"), -float("inf")):
        assert first_not_finite({"w": torch.tensor([1.0]), "x": torch.tensor([0.0, bad])}) == "x"
    assert first_not_finite({"w": torch.tensor([float("inf"), -float("inf")])}) == "w"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_numbers_whose_sum_overflows_are_finite(dtype: torch.dtype) -> None:
    assert first_not_finite({"w": torch.full((64,), torch.finfo(dtype).max, dtype=dtype)}) is None


def test_adapters_leave_the_path_by_their_whole_name() -> None:
    class Part(nn.Module):
        active = True

    model = nn.ModuleDict({"mixture": Part(), "mixtures": Part(), "body": nn.ModuleDict({"mixture": Part()})})
    set_active(model, "mixture", False)
    state = {name: module.active for name, module in model.named_modules() if isinstance(module, Part)}
    assert state == {"mixture": False, "mixtures": True, "body.mixture": False}
    set_active(model, "mixture", True)
    assert model["mixture"].active


def test_adapters_are_weighed_by_their_whole_name() -> None:
    class Part(nn.Module):
        active, weight = True, 1.0

    model = nn.ModuleDict({"lora": Part(), "own_lora": Part(), "linear": nn.Linear(1, 1)})
    set_weight(model, "own_lora", 0.5)
    set_weight(model, "linear", 0.5)  # no adapter: its weight is a tensor
    assert [model["lora"].weight, model["own_lora"].weight] == [1.0, 0.5]
    assert isinstance(model["linear"].weight, nn.Parameter)


def test_a_difference_and_zeros_by_hand() -> None:
    found = difference({"a": torch.tensor([3.0, 4.0])}, {"a": torch.tensor([1.0, 5.0]), "b": torch.tensor(1.0)})
    assert found.keys() == {"a"} and found["a"].tolist() == [2.0, -1.0]
    assert zeros({"a": torch.ones(2, dtype=torch.float64)})["a"].tolist() == [0.0, 0.0]


def test_a_squared_norm_by_hand() -> None:
    assert float(squared_norm({"a": torch.tensor([3.0, 4.0]), "b": torch.tensor(2.0)})) == 29.0
