"""What each rule makes of the sites' pairs, against the sum of their weight updates, over random factors."""

from __future__ import annotations

import errno

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from methods.aggregators.pairs import (
    HEAD,
    MEANS,
    PLACES,
    RULES,
    UPS,
    Sites,
    random_state,
    relative,
    rule,
    sites,
    update_of,
)
from sammit.errors import UserError
from sammit.methods.aggregators import factors
from sammit.methods.aggregators.base import Aggregator
from sammit.methods.aggregators.factors import Products, down_of, product, rest_of
from sammit.methods.state import WeightedMean
from sammit.vocabulary import State


def with_rest(state: State) -> State:
    """The server's tensors where it holds what pairs cannot."""
    rests = {rest_of(up): torch.zeros(len(state[up]), state[down_of(up)].shape[1]) for up in UPS}
    return state | rests


def sent(aggregator: Aggregator, state: State) -> State:
    """What leaves a site of all it trained."""
    return {name: tensor for name, tensor in state.items() if aggregator.trains(name) and aggregator.shares(name)}


@settings(max_examples=60)
@given(sites())
def test_fedex_is_exact_and_adds_up(given: Sites) -> None:
    """After each of two rounds the weight update at every site is the mean of the updates that the round began with."""
    fedex = rule("fedex_lora")
    server, metrics = fedex.merge(with_rest(given.states[0]), given.updates)
    for place in range(2):
        assert relative(update_of(server, place), given.wanted(place)) < 1e-5
    again, _ = fedex.merge(server, given.updates)
    for place, up in enumerate(UPS):
        before = server[rest_of(up)].double()
        assert relative(update_of(again, place), before + given.wanted(place)) < 1e-5
    assert metrics["lora_error"] < 1e-6


@settings(max_examples=60)
@given(sites())
def test_flexlora_is_exact_where_the_rank_suffices(given: Sites) -> None:
    """A model of as many rows as all sites have together, which may be more than the weight is wide."""
    flexlora, rank = rule("flexlora", ranks={"a": given.rank}), given.rank * len(given.states)
    like = random_state(given.widths, rank, 0)
    padded = [flexlora.fill(state, like) for state in given.states]
    server, metrics = flexlora.merge(like, list(zip(padded, given.weights, strict=True)))
    for place, up in enumerate(UPS):
        assert server[up].shape[1] == server[down_of(up)].shape[0] == rank
        assert relative(update_of(server, place), given.wanted(place)) < 1e-5
    assert metrics["lora_error"] < 1e-6 and "lora_error.a" in metrics


@settings(max_examples=60)
@given(sites())
def test_ffa_is_exact(given: Sites) -> None:
    """All sites have one A, which nobody sends: the mean of B is all it takes."""
    ffa, common = rule("ffa_lora"), given.states[0]
    downs = {down_of(up): common[down_of(up)] for up in UPS}
    states = [state | downs for state in given.states]
    server, metrics = ffa.merge(common, [(sent(ffa, s), w) for s, w in zip(states, given.weights, strict=True)])
    assert set(server) == {HEAD, *UPS} and metrics == {}
    alike = Sites(states, given.weights, given.widths, given.rank)
    for place in range(2):
        assert relative(update_of(server | downs, place), alike.wanted(place)) < 1e-5


@settings(max_examples=60)
@given(sites())
def test_the_error_of_the_naive_mean_is_the_covariance_of_the_factors(given: Sites) -> None:
    """Computed twice by hand: as the difference of the sums, and as sum_k p_k (B_k - B)(A_k - A)."""
    server, metrics = rule("naive").merge(given.states[0], given.updates)
    apart, whole, covariance = 0.0, 0.0, 0.0
    for place, up in enumerate(UPS):
        mean_up = sum(p * s[up].double() for p, s in zip(given.shares, given.states, strict=True))
        mean_down = sum(p * s[down_of(up)].double() for p, s in zip(given.shares, given.states, strict=True))
        apart += float((given.wanted(place) - mean_up @ mean_down).square().sum())
        whole += float(given.wanted(place).square().sum())
        spread = [
            p * (s[up].double() - mean_up) @ (s[down_of(up)].double() - mean_down)
            for p, s in zip(given.shares, given.states, strict=True)
        ]
        covariance += float(sum(spread).square().sum())  # type: ignore[union-attr]
        assert relative(server[up].double(), mean_up) < 1e-6
    assert metrics["lora_error"] == pytest.approx((apart / whole) ** 0.5, rel=1e-4, abs=1e-6)
    assert metrics["lora_error"] == pytest.approx((covariance / whole) ** 0.5, rel=1e-4, abs=1e-6)


@settings(max_examples=30)
@given(sites(), st.sampled_from(["_up.weight", "_down.weight"]))
def test_the_naive_mean_is_exact_where_one_factor_agrees(given: Sites, factor: str) -> None:
    alike = {f"{place}{factor}": given.states[0][f"{place}{factor}"] for place in PLACES}
    updates = [(state | alike, weight) for state, weight in given.updates]
    assert rule("naive").merge(given.states[0], updates)[1]["lora_error"] < 1e-6


def test_the_naive_mean_by_hand() -> None:
    """Two sites, rank one: B = (1, 0) and (0, 1), A likewise; the sum is half the identity, the mean all quarters."""
    first: State = {UPS[0]: torch.tensor([[1.0], [0.0]]), down_of(UPS[0]): torch.tensor([[1.0, 0.0]])}
    second: State = {UPS[0]: torch.tensor([[0.0], [1.0]]), down_of(UPS[0]): torch.tensor([[0.0, 1.0]])}
    server, metrics = rule("naive").merge(first, [(first, 3.0), (second, 3.0)])
    assert product(server, UPS[0]).tolist() == [[0.25, 0.25], [0.25, 0.25]]
    assert metrics["lora_error"] == pytest.approx((4 * 0.25**2 / 0.5) ** 0.5)


@settings(max_examples=40)
@given(sites())
def test_fedex_tells_what_the_naive_mean_would_have_missed(given: Sites) -> None:
    naive = rule("naive").merge(given.states[0], given.updates)[1]["lora_error"]
    assert rule("fedex_lora").merge(with_rest(given.states[0]), given.updates)[1]["lora_residual"] == naive


@settings(max_examples=40)
@given(sites())
def test_flexlora_keeps_the_best_that_its_rank_can_hold(given: Sites) -> None:
    """Eckart and Young: the error is the norm of the singular values that are cut off, computed from the dense sum."""
    server, metrics = rule("flexlora").merge(given.states[0], given.updates)
    cut, whole = 0.0, 0.0
    for place, up in enumerate(UPS):
        values = torch.linalg.svdvals(given.wanted(place))
        cut, whole = cut + float(values[given.rank :].square().sum()), whole + float(values.square().sum())
        gram = server[up].double().T @ server[up].double()
        assert torch.allclose(gram, (server[down_of(up)] @ server[down_of(up)].T).double(), atol=1e-4), "balanced"
        assert torch.allclose(gram.diagonal(), values[: given.rank], atol=1e-4)
    assert metrics["lora_error"] == pytest.approx((cut / whole) ** 0.5, abs=1e-6)


@pytest.mark.parametrize("held", [1, 1 << 30], ids=["in a file", "in memory"])
@pytest.mark.parametrize("together", [1, 3, 64])
@settings(max_examples=15)
@given(given=sites(), times=st.sampled_from([1, 4]))
def test_products_are_the_same_wherever_factors_wait(held: int, together: int, given: Sites, times: int) -> None:
    """Side by side or summed, many at once or one by one: both give the mean."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(factors, "HELD", held)
        patch.setattr(factors, "TOGETHER", together)
        with Products() as products:
            for state, weight in given.updates * times:
                products.add(state, weight)
            check_products(products, given)


def test_a_full_folder_for_factors_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    message = "No space left on device while keeping low-rank factors; make room, or set TMPDIR"
    with Products() as products, pytest.raises(UserError, match=message):
        monkeypatch.setattr(products._file, "write", full)
        products.add(random_state([(4, 5), (5, 4)], 2, 0), 1.0)


def check_products(products: Products, given: Sites) -> None:
    """Against the dense mean; factors are never wider than they have to be."""
    for place, up in enumerate(UPS):
        left, right = products.factors(up)
        assert (len(left), right.shape[1]) == given.widths[place]
        assert left.shape[1] == len(right) <= max(given.widths[place])
        assert relative(left @ right, given.wanted(place)) < 1e-12
        assert relative(products.mean(up), given.wanted(place)) < 1e-12
    assert products.error(products.mean) == 0.0


@pytest.mark.parametrize("name", MEANS)
@settings(max_examples=15)
@given(given=sites())
def test_everything_but_pairs_is_the_plain_mean(name: str, given: Sites) -> None:
    """Bit for bit, and under the names the server had."""
    aggregator, mean = rule(name), WeightedMean()
    server = with_rest(given.states[0]) if aggregator.holds(rest_of(UPS[0])) else sent(aggregator, given.states[0])
    for state, weight in given.updates:
        mean.add({HEAD: state[HEAD]}, weight)
    found, _ = aggregator.merge(server, [(sent(aggregator, s), w) for s, w in given.updates])
    assert torch.equal(found[HEAD], mean.mean()[HEAD])
    assert found.keys() == server.keys()
    assert all(found[n].shape == t.shape and found[n].dtype == t.dtype for n, t in server.items())


@pytest.mark.parametrize("name", RULES)
def test_a_round_without_answers_changes_nothing(name: str) -> None:
    server = with_rest(random_state(((4, 3), (5, 6)), 2, 0))
    found, metrics = rule(name).merge(server, iter(()))
    assert found is server and metrics == {}


@pytest.mark.parametrize("name", RULES)
def test_the_order_of_names_in_a_state_changes_nothing(name: str) -> None:
    """Sites that serialise their tensors otherwise: the same bits."""
    states = [random_state(((4, 3), (5, 6)), 2, seed) for seed in range(3)]
    found = []
    for way in (list, reversed):
        updates = [(dict(way(list(state.items()))), 2.0) for state in states]  # type: ignore[operator]
        found.append(rule(name).merge(with_rest(states[0]), updates))
    assert all(torch.equal(found[0][0][key], found[1][0][key]) for key in found[0][0])
    assert found[0][1] == found[1][1]
