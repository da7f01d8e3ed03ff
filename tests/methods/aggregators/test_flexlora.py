"""Ranks that differ by site: what travels, what stays zero, and factors that are new after each round."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from methods.aggregators.pairs import HEAD, PLACES, UPS, Loop, paired, random_state, update_of
from methods.conftest import TRAINING
from sammit.errors import UserError
from sammit.methods.aggregators.factors import down_of, is_down, is_factor, is_up
from sammit.methods.aggregators.flexlora import Aggregator, Options
from sammit.methods.state import take
from sammit.vocabulary import State

DECAYED = replace(TRAINING, weight_decay=0.1, optimiser_state="keep")  # AdamW, which decays what it trains
WIDTHS = ((4, 3), (5, 6))


def test_a_site_of_rank_two_sends_and_is_sent_two_rows(tmp_path: Path) -> None:
    """Of the model's four: the first, also in the first order; all other tensors are whole."""
    loop = Loop(paired("fedavg", "flexlora"), tmp_path)
    loop.round()
    for message in (loop.orders["b"].tensors, loop.updates["b"].tensors):
        for name, tensor in message.items():
            whole = loop.orders["a"].tensors[name]
            if is_down(name):
                assert tensor.shape == (2, whole.shape[1])
            elif is_up(name):
                assert tensor.shape == (len(whole), 2)
            else:
                assert tensor.shape == whole.shape
    first = loop.b.start
    assert all(torch.equal(t, first[n][:2]) for n, t in loop.orders["b"].tensors.items() if is_down(n))


def test_what_a_site_does_not_have_stays_zero(tmp_path: Path) -> None:
    """Bit for bit, through AdamW with decay, and what it has moves."""
    loop = Loop(paired("fedavg", "flexlora", DECAYED), tmp_path)
    for _ in range(2):
        loop.round()  # "b" is trained last: the model holds its tensors
        left = take(loop.b.model, filter(is_factor, loop.b.shared))
        for name, tensor in left.items():
            kept, cut = (tensor[:2], tensor[2:]) if is_down(name) else (tensor[:, :2], tensor[:, 2:])
            assert torch.equal(cut, torch.zeros_like(cut)), name
            assert not torch.equal(kept, loop.orders["b"].tensors[name]), name


def test_moments_of_factors_are_dropped_and_those_of_the_decoder_kept(tmp_path: Path) -> None:
    """A moment of a factor that is no more would push the new one somewhere."""
    moments = {}
    for rule in ("flexlora", "naive"):
        loop = Loop(paired("fedavg", rule, DECAYED), tmp_path / rule)
        loop.round()
        private = loop.b.worker(tmp_path / rule).memory
        private.settle(replace(loop.orders["a"], kind="keep", accepted=0, origin=loop.orders["a"].fingerprint))
        moments[rule] = {key.partition("|")[0].removeprefix("optimiser.") for key in private.committed()[0]}
    assert moments["naive"] == set(loop.b.shared)
    assert moments["flexlora"] == {name for name in loop.b.shared if not is_factor(name)}


def test_directions_that_nobody_used_can_still_be_trained() -> None:
    """Sites whose B is zero: the state comes back; factors of rank one of three: two are as at the start."""
    flexlora, state = Aggregator(), random_state(WIDTHS, 3, 0)
    unused = {up: torch.zeros_like(state[up]) for up in UPS}
    server, metrics = flexlora.merge(state, [(state | unused, 1.0), (state | unused, 5.0)])
    assert all(torch.allclose(server[name], tensor) for name, tensor in (state | unused).items())
    assert metrics == {"lora_error": 0.0}
    for up in UPS:
        unused[up][:, 0] = state[up][:, 0]
    server, _ = flexlora.merge(state, [(state | unused, 1.0)])
    for up in UPS:
        assert bool(server[up][:, 0].any()) and not bool(server[up][:, 1:].any())
        assert torch.equal(server[down_of(up)][1:], state[down_of(up)][1:])


def test_the_error_of_a_site_is_that_of_what_it_goes_on_from() -> None:
    """Its first columns and rows against the sum, computed densely."""
    flexlora = Aggregator(Options({"b": 1}))
    states = [random_state(WIDTHS, 3, seed) for seed in (0, 1)]
    states[1] = flexlora.fill(flexlora.cut(states[1], "b"), states[0])
    server, metrics = flexlora.merge(states[0], [(states[0], 1.0), (states[1], 3.0)])
    own = flexlora.fill(flexlora.cut(server, "b"), server)
    apart = whole = 0.0
    for place in range(2):
        wanted = 0.25 * update_of(states[0], place) + 0.75 * update_of(states[1], place)
        apart += float((wanted - update_of(own, place)).square().sum())
        whole += float(wanted.square().sum())
    assert metrics["lora_error.b"] == pytest.approx((apart / whole) ** 0.5, rel=1e-5)
    assert metrics["lora_error.b"] > metrics["lora_error"]


def test_cut_and_filled_a_state_is_itself_with_zeros() -> None:
    flexlora, state = Aggregator(Options({"b": 2})), random_state(WIDTHS, 3, 0)
    assert flexlora.cut(state, "a") is state
    filled = flexlora.fill(flexlora.cut(state, "b"), state)
    assert torch.equal(filled[HEAD], state[HEAD])
    for up in UPS:
        assert torch.equal(filled[up][:, :2], state[up][:, :2]) and not bool(filled[up][:, 2:].any())
        assert torch.equal(filled[down_of(up)][:2], state[down_of(up)][:2])


@pytest.mark.parametrize(
    ("ranks", "reason"),
    [
        ({"b": 0}, r"method\.flexlora\.ranks\.b: must be a whole number, 1 or more"),
        ({"b": 1.5}, r"method\.flexlora\.ranks\.b: must be a whole number"),
        ({"b": 5}, r"method\.flexlora\.ranks\.b: 5 is above the model's rank, 4"),
        ({"bb": 2}, r"there is no site 'bb': did you mean 'b'"),
    ],
)
def test_wrong_ranks_are_refused_by_name(ranks: dict[str, int], reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        paired("fedavg", "flexlora", flexlora={"ranks": ranks})


def test_a_method_that_keeps_something_of_each_factor_is_refused() -> None:
    """What it keeps would be of factors that are no more."""
    with pytest.raises(UserError, match=r"pfedsam keeps 'ema\.' of every shared tensor.*use 'naive'"):
        paired("pfedsam", "flexlora", kd_teacher="ema")


def test_other_adapters_and_half_pairs_are_left_alone() -> None:
    """Names decide: a site's own low-rank adapter is none of the server's business, nor is a factor that came alone."""
    own: State = {name.replace(".lora.", ".own_lora."): t for name, t in random_state(WIDTHS, 3, 1).items()}
    alone: State = {f"{PLACES[0]}_up.weight": torch.randn(4, 3)}
    for state in (own, alone):
        server, metrics = Aggregator(Options({"b": 1})).merge(state, [(state, 2.0)])
        assert all(torch.equal(server[name], tensor) for name, tensor in state.items()) and metrics == {}
