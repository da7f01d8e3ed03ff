"""Rules for updates that may be wrong: what a few sites can do to the result, against references in numpy and scipy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

import tiny
from federation.hand import HandMade, loop, start, template, update
from federation.test_spill import Arriving
from methods.aggregators.pairs import rule
from sammit.config import Experiment
from sammit.errors import UserError
from sammit.federation.leading import lead
from sammit.federation.prepare import check_sites, make_method
from sammit.federation.spill import Spill, Stored
from sammit.methods.aggregators.base import Aggregator
from sammit.methods.aggregators.clipped_mean import Options
from sammit.methods.aggregators.coordinates import middle
from sammit.methods.base import Method
from sammit.methods.state import PIECE, WeightedMean, distance
from sammit.recipe import experiment_from
from sammit.vocabulary import Order, State

ROBUST = ["clipped_mean", "median", "trimmed_mean"]
counts = st.integers(3, 9)
LARGE = 1e30


def site(seed: int, size: float = 1.0) -> State:
    draw = torch.Generator().manual_seed(seed)
    return {name: size * torch.randn(shape, generator=draw) for name, shape in (("a", (3, 4)), ("b", (5,)), ("c", ()))}


def stacked(states: Sequence[State], name: str) -> np.ndarray:
    return np.stack([state[name].double().numpy() for state in states])


def merged(aggregator: Aggregator, states: Sequence[State], weights: Sequence[float] | None = None) -> State:
    before = {name: torch.zeros_like(tensor) for name, tensor in states[0].items()}
    return aggregator.merge(before, list(zip(states, weights or [1.0] * len(states), strict=True)))[0]


def lies(draw: st.DrawFn, count: int) -> list[State]:
    """Anything finite, as large as its type allows: all one way, or each its own."""
    kinds = st.sampled_from([LARGE, -LARGE, 3e38, 0.0, 1e-30])
    return [{name: torch.full_like(t, draw(kinds)) for name, t in site(0).items()} for _ in range(count)]


@st.composite
def corrupted(draw: st.DrawFn, most: Any) -> tuple[list[State], list[State], list[State]]:
    """Sound sites, liars, and all of them in any order; `most` says how many of K may lie."""
    count, seed = draw(counts), draw(st.integers(0, 999))
    liars = lies(draw, draw(st.integers(0, most(count))))
    sound = [site(seed + k) for k in range(count - len(liars))]
    return sound, liars, draw(st.permutations([*sound, *liars]))


def within(found: State, sound: Sequence[State]) -> bool:
    """Whether every number lies between the least and the largest of the sound sites."""
    ends = {name: (stacked(sound, name).min(0), stacked(sound, name).max(0)) for name in found}
    return all(bool(((low <= found[n].numpy()) & (found[n].numpy() <= high)).all()) for n, (low, high) in ends.items())


@given(corrupted(lambda count: (count - 1) // 2))
def test_the_median_stays_among_the_sound_sites(given: tuple[list[State], list[State], list[State]]) -> None:
    """With any number of liars below half of all."""
    sound, _, everyone = given
    assert within(merged(rule("median"), everyone), sound)


@pytest.mark.parametrize("share", [0.2, 0.25, 0.4])
@given(data=st.data())
def test_the_trimmed_mean_stays_among_the_sound_sites(share: float, data: st.DataObject) -> None:
    """With as many liars as are left out at an end."""
    sound, _, everyone = data.draw(corrupted(lambda count: int(share * count)))
    assert within(merged(rule("trimmed_mean", share=share), everyone), sound)


def test_one_liar_more_and_they_do_not() -> None:
    """The bounds are tight: half of the sites, or one more than is left out."""
    liar = {name: torch.full_like(tensor, LARGE) for name, tensor in site(0).items()}
    assert not within(merged(rule("median"), [site(1), site(2), liar, liar]), [site(1), site(2)])
    sound = [site(k) for k in range(3)]
    assert not within(merged(rule("trimmed_mean", share=0.25), [*sound, liar, liar]), sound)
    assert not within(merged(rule("naive"), [*sound, liar]), sound)


@given(corrupted(lambda count: (count - 1) // 2))
def test_no_site_carries_the_clipped_mean_further_than_its_share(
    given: tuple[list[State], list[State], list[State]],
) -> None:
    """The bound is the norm of some sound site, and with other liars the mean moves by 2 p C at most."""
    sound, liars, _ = given
    zero = {name: torch.zeros_like(tensor) for name, tensor in site(0).items()}
    clipped = rule("clipped_mean")
    weights = [1.0] * len(sound) + [3.0] * len(liars)
    found, told = clipped.merge(zero, list(zip([*sound, *liars], weights, strict=True)))
    largest = told["clip_norm"]
    assert largest <= max(distance(state, zero) for state in sound) + 1e-9
    assert distance(found, zero) <= largest * (1 + 1e-6)
    fixed = rule("clipped_mean", norm=largest) if largest else clipped
    other, _ = fixed.merge(zero, list(zip([*sound, *([zero] * len(liars))], weights, strict=True)))
    share = 3 * len(liars) / sum(weights)
    assert distance(found, other) <= share * largest * (1 + 1e-6)


@given(counts, st.integers(0, 999))
def test_the_median_is_numpy_s(count: int, seed: int) -> None:
    states = [site(seed + k) for k in range(count)]
    for name, tensor in merged(rule("median"), states, [float(k + 1) for k in range(count)]).items():
        assert np.array_equal(tensor.numpy(), np.median(stacked(states, name), axis=0).astype(np.float32))


@pytest.mark.parametrize("share", [0.1, 0.25, 0.29, 1 / 3, 0.49])
@given(count=counts, seed=st.integers(0, 999))
def test_the_trimmed_mean_is_scipy_s(share: float, count: int, seed: int) -> None:
    states = [site(seed + k) for k in range(count)]
    for name, tensor in merged(rule("trimmed_mean", share=share), states).items():
        assert np.allclose(tensor.numpy(), stats.trim_mean(stacked(states, name), share, axis=0), rtol=1e-6, atol=1e-7)


@given(counts, st.integers(0, 999), st.floats(0.1, 10))
def test_the_clipped_mean_by_hand(count: int, seed: int, norm: float) -> None:
    """In numpy over one long vector; and with a bound that nobody reaches it is the mean by weight, bit for bit."""
    states, before = [site(seed + k, 2.0) for k in range(count)], site(seed + 77)
    weights = [float(k + 1) for k in range(count)]
    found, told = rule("clipped_mean", norm=norm).merge(before, list(zip(states, weights, strict=True)))

    def flat(state: State) -> np.ndarray:
        return np.concatenate([state[name].double().numpy().reshape(-1) for name in before])

    steps = np.stack([flat(state) - flat(before) for state in states])
    norms = np.linalg.norm(steps, axis=1)
    steps *= np.minimum(1, norm / norms)[:, None]
    assert np.allclose(flat(found), flat(before) + np.average(steps, axis=0, weights=weights), atol=1e-5)
    assert told == {"clip_norm": norm, "clipped": int((norms > norm).sum())}
    mean = WeightedMean()
    for state, weight in zip(states, weights, strict=True):
        mean.add(state, weight)
    free = rule("clipped_mean", norm=1e6).merge(before, list(zip(states, weights, strict=True)))[0]
    assert all(torch.equal(free[name], tensor) for name, tensor in mean.mean().items())


@given(seed=st.integers(0, 999), count=counts, data=st.data(), name=st.sampled_from(["median", "trimmed_mean"]))
def test_who_is_who_changes_nothing(seed: int, count: int, data: st.DataObject, name: str) -> None:
    """Bit for bit, whatever their weights."""
    states = [site(seed + k) for k in range(count)]
    weights = data.draw(st.lists(st.floats(1, 99), min_size=count, max_size=count))
    found, again = merged(rule(name), states), merged(rule(name), data.draw(st.permutations(states)), weights)
    assert all(torch.equal(found[key], again[key]) for key in found)


@given(seed=st.integers(0, 999), count=counts, data=st.data())
def test_the_order_of_sites_changes_only_the_rounding_of_the_clipped_mean(
    seed: int, count: int, data: st.DataObject
) -> None:
    pairs = [(site(seed + k), float(k + 1)) for k in range(count)]
    before = site(seed + 77)
    found, told = rule("clipped_mean").merge(before, pairs)
    again, same = rule("clipped_mean").merge(before, data.draw(st.permutations(pairs)))
    assert told == same and all(torch.allclose(found[key], again[key], atol=1e-6) for key in found)


@pytest.mark.parametrize("shape", [(), (0,), (3, 1), (PIECE + 7,), (2, PIECE)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_long_tensors_are_sorted_piece_by_piece(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    """The same as whole; strided tensors too, which are read in their own order."""
    draw = torch.Generator().manual_seed(0)
    tensors = [torch.randn(shape, generator=draw).to(dtype) for _ in range(5)]
    wanted = torch.stack(tensors).median(0).values
    assert torch.equal(middle(tensors, 2), wanted) and middle(tensors, 2).dtype == dtype
    if len(shape) == 2:
        assert torch.equal(middle([t.T for t in tensors], 2), wanted.T)


# In the round loop


SITES = "abcdefg"


def chosen(root: Path | str = "x", **method: Any) -> Experiment:
    """FedAvg with keys of `[method]`."""
    table = tiny.table(root)
    table["method"] |= method
    return experiment_from(table)


def ready(name: str, transport: Any, folder: Path, sites: Sequence[str] = SITES) -> Any:
    rounds = loop(transport, sites, Method())
    rounds.method.aggregator, rounds.waiting = rule(name), folder / "waiting"
    scores = replace(rounds.experiment.evaluation, every=0, selection="last")
    rounds.experiment = replace(rounds.experiment, evaluation=scores)
    return rounds


@pytest.mark.parametrize("name", ROBUST)
@pytest.mark.parametrize("arrival", ["abcdefgh", "hgfedcba"])
def test_updates_wait_on_disk_and_memory_holds_one_or_two(name: str, arrival: str, tmp_path: Path) -> None:
    """Whatever the order of arrival; the result is the same, and no file is left."""
    transport = Arriving(arrival, tmp_path / "waiting")
    found = ready(name, transport, tmp_path, "abcdefgh").run(start()).server.shared
    assert transport.most <= 2 and transport.files >= 7 and not (tmp_path / "waiting").exists()
    straight = ready(name, Arriving("abcdefgh"), tmp_path, "abcdefgh").run(start()).server.shared
    assert all(torch.equal(found[key], straight[key]) for key in found)


@pytest.mark.parametrize(("name", "bound"), [("median", 2.0), ("trimmed_mean", 2.0), ("clipped_mean", 2.0)])
def test_a_site_that_lies_does_not_carry_the_model_off(name: str, bound: float, tmp_path: Path) -> None:
    """Six sites send numbers between one and two, the seventh what it likes, of which nothing warns the guard."""
    answers: dict[str, Any] = {who: partial(update, value=1 + k / 6) for k, who in enumerate(SITES)}
    answers["g"] = partial(update, value=LARGE)
    found = ready(name, HandMade(answers), tmp_path).run(start()).server.shared
    assert all(float(t.min()) > 0.5 and float(t.max()) <= bound for t in found.values())
    carried = ready("naive", HandMade(answers), tmp_path).run(start()).server.shared
    assert float(carried["b.bias"].max()) > LARGE / 10


def test_only_one_tensor_of_each_site_is_read_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sites are asked for one name after another, and nothing is asked for twice."""
    asked: list[str] = []
    original = Stored.__getitem__

    def watched(self: Stored, name: str) -> torch.Tensor:
        asked.append(name)
        return original(self, name)

    monkeypatch.setattr(Stored, "__getitem__", watched)
    with Spill(tmp_path / "waiting") as spill:
        stored = [spill.put(update(Order("train", who, 0, {}))) for who in SITES]
        rule("median").merge(template(), ((u.tensors, 1.0) for u in stored))
    assert asked == [name for name in template() for _ in SITES]


@pytest.mark.parametrize(("name", "least"), [("median", 3), ("clipped_mean", 3), ("trimmed_mean", 4)])
def test_a_round_with_too_few_answers_stops_the_run(name: str, least: int, tmp_path: Path) -> None:
    """A rule that could do nothing against one liar must not look as if it did."""
    everyone = SITES[:least]
    rounds = ready(name, HandMade(dict.fromkeys(everyone[1:], update)), tmp_path, everyone)
    wanted = rf"{least - 1} of {least} sites answered, method.aggregator asks for {least} \(a: did not answer\)"
    with pytest.raises(UserError, match=wanted):
        rounds.run(start())


@pytest.mark.parametrize("name", ROBUST)
def test_a_run_of_too_few_sites_does_not_begin(name: str, sites: Path, tmp_path: Path) -> None:
    """Here and across hospitals, where nobody is invited."""
    experiment = chosen(sites, aggregator=name)
    wanted = f"method.aggregator: '{name}' needs [34] sites or more, but 2 train; use 'naive'"
    with pytest.raises(UserError, match=wanted):
        tiny.run(experiment, tmp_path / "run")
    with pytest.raises(UserError, match=wanted):
        lead(tmp_path / "led", experiment, tuple(tiny.LOOKS), HandMade({}), lambda row: None)  # type: ignore[arg-type]
    assert not (tmp_path / "run").exists() and not (tmp_path / "led").exists()


@pytest.mark.parametrize(("share", "least"), [(0.49, 3), (1 / 3, 3), (0.25, 4), (0.2, 5), (0.1, 10)])
def test_a_trimmed_mean_asks_for_sites_enough_to_leave_one_out(share: float, least: int) -> None:
    experiment = chosen(aggregator="trimmed_mean", trimmed_mean={"share": share})
    method = make_method(experiment)
    check_sites(experiment, method, least)
    assert method.aggregator.least == least and method.needs_all
    if least > 3:
        with pytest.raises(UserError, match=f"needs {least} sites or more"):
            check_sites(experiment, method, least - 1)


def test_weights_of_a_method_s_own_are_refused_where_sites_count_alike() -> None:
    make_method(chosen(weights="fedfms", aggregator="clipped_mean"))
    with pytest.raises(UserError, match="fedavg weighs the sites by a rule of its own, so 'median' cannot be put"):
        make_method(chosen(weights="fedfms", aggregator="median"))


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("trimmed_mean", "share", 0.5),
        ("trimmed_mean", "share", 0.0),
        ("clipped_mean", "norm", -1.0),
        ("clipped_mean", "norm", float("nan")),
    ],
)
def test_options_that_cannot_be_are_told(name: str, key: str, value: float) -> None:
    with pytest.raises(UserError, match=f"method.{name}.{key}: must be above 0"):
        make_method(chosen(aggregator=name, **{name: {key: value}}))


def test_a_reader_is_told(sites: Path) -> None:
    said: Iterator[str] = (note for name in ROBUST for note in rule(name).notes())
    words = " ".join(said)
    assert all(part in words for part in ("the median of each number", "25% least and largest", "a norm of"))
    assert "however many images" not in " ".join(rule("clipped_mean").notes()) and Options().norm == 0
