"""The round loop over hand-made transports: weights, arrival, failures, traffic."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import permutations
from typing import Any, ClassVar

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from federation.hand import HandMade, loop, start, template, update
from sammit.errors import UserError
from sammit.federation.exchange import Delivery
from sammit.methods.base import Method, Server
from sammit.vocabulary import Failure, Order, Update

SITES = ("aster", "birch", "cedar")


def values(order: Order, site: str) -> Update:
    """An answer with random tensors, the same for the same site."""
    source = torch.Generator().manual_seed(SITES.index(site))
    tensors = {name: torch.randn(t.shape, generator=source) for name, t in template().items()}
    return update(order, tensors=tensors, samples=[3, 50, 7][SITES.index(site)])


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=5))
@settings(max_examples=30, deadline=None)
def test_weights_are_exactly_samples_over_their_sum(samples: list[int]) -> None:
    """Site k sends k + 1; the mean is the exact rational, rounded once."""
    from fractions import Fraction

    names = [f"s{k}" for k in range(len(samples))]
    answers = {
        name: (lambda order, k=k: update(order, k + 1.0, samples[k]))  # type: ignore[misc]
        for k, name in enumerate(names)
    }
    progress = loop(HandMade(answers), names).run(start())
    exact = Fraction(sum((k + 1) * n for k, n in enumerate(samples)), sum(samples))
    wanted = torch.tensor(float(exact), dtype=torch.float64).float()
    for tensor in progress.server.shared.values():
        assert torch.equal(tensor, torch.full_like(tensor, wanted))


def test_what_else_a_method_reports_is_logged() -> None:
    """By site, beside loss and steps; what is no number in JSON is null."""

    class Reports(Method):
        reports: ClassVar[Mapping[str, str]] = {**Method.reports, "gap": "a difference"}

    metrics = {"loss": 0.5, "steps": 2, "gap": float("inf")}
    answers = {"aster": lambda order: update(order, metrics=metrics), "birch": lambda order: update(order)}
    progress = loop(HandMade(answers), ("aster", "birch"), Reports()).run(start())
    assert progress.log[0]["numbers"] == {"aster": {"gap": None}, "birch": {}}


@pytest.mark.parametrize("arrival", list(permutations(SITES)))
def test_order_of_arrival_changes_nothing(arrival: tuple[str, ...]) -> None:
    """Sums run in site order."""

    def result(way: tuple[str, ...]) -> Any:
        answers = {site: (lambda order, site=site: values(order, site)) for site in SITES}  # type: ignore[misc]
        progress = loop(HandMade(answers, way), SITES).run(start())
        return progress.server.shared, {k: v for k, v in progress.log[0].items() if k != "seconds"}

    (shared, line), (wanted, wanted_line) = result(arrival), result(SITES)
    assert all(torch.equal(shared[name], wanted[name]) for name in wanted)
    assert line == wanted_line


def fails(order: Order) -> Failure:
    """A site that cannot answer."""
    return Failure(order.site, order.round, "the disk died")


def test_a_failed_site_is_reported_and_the_round_goes_on() -> None:
    """Its reason is logged; the mean is over the others; it is not told that its update was taken."""
    transport = HandMade({"aster": fails, "birch": lambda order: update(order, 2.0, 5)})
    progress = loop(transport, ("aster", "birch"), rounds=2).run(start())
    assert [row["failed"] for row in progress.log] == [{"aster": "the disk died"}] * 2
    assert float(progress.server.shared["b.bias"][0]) == 2.0
    last = {order.site: order.accepted for order in transport.orders if order.kind == "train" and order.round == 1}
    assert last == {"aster": -1, "birch": 0}


def test_too_few_sites_stop_the_run_before_anything_is_saved() -> None:
    """One line with every reason, and the server's state as it was."""
    transport = HandMade({"aster": fails, "birch": lambda order: update(order)})
    rounds = loop(transport, ("aster", "birch"), min_sites=2)
    with pytest.raises(UserError, match=r"round 0: 1 of 2 sites .*aster: the disk died.* --resume") as raised:
        rounds.run(start())
    assert "\n" not in str(raised.value)
    assert rounds.saved == []  # type: ignore[attr-defined]


def test_traffic_is_the_length_of_the_messages() -> None:
    """The log's bytes are those that the transport carried for training."""
    transport = HandMade({site: (lambda order: update(order)) for site in SITES})
    progress = loop(transport, SITES, rounds=2).run(start())
    for index, row in enumerate(progress.log):
        carried = [size for size in transport.sizes if size[0] == "train"][index * 3 : index * 3 + 3]
        assert row["down_bytes"] == {site: down for _, site, down, _ in carried}
        assert row["up_bytes"] == {site: up for _, site, _, up in carried}


class Deaf:
    """A transport that loses one site's answers, repeats another's, and brings one that nobody asked for."""

    def __init__(self, inner: HandMade, lost: str) -> None:
        self.inner, self.lost = inner, lost

    def exchange(self, orders: Any) -> Any:
        """Deliveries, tampered with."""
        for delivery in self.inner.exchange(orders):
            if delivery.reply.site != self.lost:
                yield delivery
                yield delivery
                yield Delivery(Failure("stranger", 0, "who?"), 1, 1)


def test_an_answer_that_never_comes_is_a_failure_and_holds_nobody_up() -> None:
    """The sites after the lost one count, once each."""
    inner = HandMade({site: (lambda order, site=site: values(order, site)) for site in SITES})  # type: ignore[misc]
    rounds = loop(Deaf(inner, "aster"), SITES)
    progress = rounds._train_round(start())
    assert progress.line["failed"] == {"aster": "did not answer"}
    assert list(progress.line["loss"]) == ["birch", "cedar"]
    alone = HandMade({site: (lambda order, site=site: values(order, site)) for site in SITES[1:]})  # type: ignore[misc]
    wanted = loop(alone, SITES[1:]).run(start()).server.shared
    assert all(torch.equal(progress.server.shared[name], wanted[name]) for name in wanted)


def test_a_site_that_cannot_be_scored_stops_the_run() -> None:
    """No table can be made without it."""
    inner = HandMade({site: (lambda order: update(order)) for site in SITES})
    rounds = loop(Deaf(inner, "cedar"), SITES)
    with pytest.raises(UserError, match="site 'cedar' could not be scored: did not answer"):
        rounds.evaluate(start(), start().server.shared, 0, "score", "test", SITES)


def test_a_round_that_one_site_did_not_validate_is_not_the_best() -> None:
    """Its mean is over fewer sites than that of the others."""
    inner = HandMade({site: (lambda order: update(order)) for site in SITES})
    progress = loop(Deaf(inner, "cedar"), SITES).run(start())
    assert progress.best[0] == -1 and set(progress.log[-1]["validation"]) == {"aster", "birch"}
    assert progress.log[-1]["failed"] == {"cedar": "did not answer"}
    assert loop(inner, SITES).run(start()).best[0] >= 0


class Diverged(Method):
    """Looks at no update."""

    def aggregate(self, server: Server, updates: Any) -> Server:
        """The old state."""
        return server


def test_updates_are_looked_at_even_if_the_method_needs_none() -> None:
    """Failures show, and a loss that is not finite is null in the log, for JSON knows no NaN."""
    answers = {"aster": fails, "birch": lambda order: update(order, metrics={"loss": float("nan"), "steps": 1})}
    progress = loop(HandMade(answers), ("aster", "birch"), Diverged()).run(start())
    assert progress.log[0]["failed"] == {"aster": "the disk died"}
    assert progress.log[0]["loss"] == {"birch": None}
