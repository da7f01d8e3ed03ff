"""What every method must keep, whatever it does otherwise. A new file in `sammit/methods` is covered as it is."""

from __future__ import annotations

import typing
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from methods.conftest import METHODS, TRAINING, Bench, Pictures, bench, equal, noisy
from sammit import plugins
from sammit.config import Experiment
from sammit.federation.exchange import Delivery, in_site_order
from sammit.federation.guard import check_declared, check_reported, refusal
from sammit.federation.small import UNSENT, SmallUpdates, received
from sammit.methods import base
from sammit.methods.base import Server
from sammit.methods.state import fingerprint, put, take, with_prefix, without_prefix
from sammit.runs import read_state
from sammit.vocabulary import Order, State, Update

SITES = ("a", "b", "c")
every_method = pytest.mark.parametrize("name", METHODS)

PLACES = ["vision_encoder", "mask_decoder", "layers", "0", "10", "detail", "head", "norm1", "fc1", "fc10"]
words = st.sampled_from([*PLACES, "adapters", "lora", "mixture", "mixtures", "weight", "bias"])
names = st.lists(st.lists(words, min_size=1, max_size=6).map(".".join), unique=True, max_size=12)


@st.composite
def methods(draw: st.DrawFn, name: str) -> base.Method:
    """A method under any combination of the choices that its options offer."""
    module = plugins.load("methods", name)
    hints = typing.get_type_hints(module.Options)
    offered = {f.name: typing.get_args(hints[f.name]) for f in fields(module.Options) if is_choice(hints[f.name])}
    method: base.Method = module.Method(module.Options(**{k: draw(st.sampled_from(v)) for k, v in offered.items()}))
    return method


def is_choice(hint: object) -> bool:
    return typing.get_origin(hint) is Literal


def started(b: Bench, sites: tuple[str, ...] = SITES) -> Server:
    """The server before the first round."""
    experiment = Experiment(training=b.training)
    _, memory = b.method.plan(experiment, {site: b.method.survey(Pictures(site)) for site in sites})
    check_declared(memory, b.method.server_state, "the server's memory")
    return Server(b.start, memory)


def an_update(b: Bench, folder: Path, server: Server, site: str = "a") -> Update:
    """A site's answer to the first order, through the worker that a hospital runs."""
    tensors, extras = b.method.orders(server, site)
    order = Order("train", site, 0, tensors, extras, fingerprint(tensors))
    update = b.worker(folder, Pictures(site)).handle(order)
    assert isinstance(update, Update)
    return update


@pytest.fixture(scope="module", params=METHODS)
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Bench, Server, Update]:
    """A method, its server, and one site's first update."""
    b = bench(request.param)
    server = started(b)
    return b, server, an_update(b, tmp_path_factory.mktemp(request.param), server)


@every_method
def test_it_says_what_it_is(name: str) -> None:
    row = next(row for row in plugins.describe("methods") if row["name"] == name)
    assert all(row[key] for key in ("summary", "paper", "travels", "stays"))
    method = plugins.load("methods", name).Method
    assert issubclass(method, base.Method)
    assert method.reported in method.judged and method.unseen_rule


@every_method
@given(data=st.data(), live=names)
def test_shared_and_personal_part_the_trained_names(name: str, data: st.DataObject, live: list[str]) -> None:
    """Nothing is in both, nothing in neither, and the model's order is kept; a name is judged by itself alone."""
    method = data.draw(methods(name))
    shared, personal = method.shared_names(live), method.personal_names(live)
    assert not set(shared) & set(personal)
    assert [n for n in live if n in {*shared, *personal}] == [n for n in live if method.trains(n)]
    assert list(shared) == [n for n in live if n in shared] and list(personal) == [n for n in live if n in personal]
    assert method.shared_names(live[::-1]) == shared[::-1]


def test_an_update_holds_exactly_the_shared_names(trained: tuple[Bench, Server, Update]) -> None:
    """With the order's shapes and types, sound in the server's eyes, and with the numbers that the log wants."""
    b, _, update = trained
    assert tuple(update.tensors) == b.shared
    assert refusal(update, 0, b.start, b.method.extras_up, b.method.reports) == ""
    assert update.metrics["steps"] == b.training.local_steps
    assert update.metrics["loss"] > 0 and update.samples == 6


def test_orders_hold_shared_names_and_what_is_declared(trained: tuple[Bench, Server, Update]) -> None:
    b, server, _ = trained
    for site in SITES:
        tensors, extras = b.method.orders(server, site)
        assert tensors.keys() <= set(b.shared)
        check_declared(extras, b.method.extras_down, "an order")


@every_method
@pytest.mark.parametrize("kept", ["keep", pytest.param("reset", marks=pytest.mark.slow)])
@pytest.mark.parametrize("optimiser", ["adamw", "sgd"])
def test_whatever_is_returned_is_declared(name: str, kept: Any, optimiser: Any) -> None:
    """From two rounds and the last stage: a site's state, an update's extras, the server's memory."""
    training = replace(TRAINING, optimiser_state=kept, optimiser=optimiser, local_steps=2)
    b = bench(name, None, training)
    server, private = started(b, ("a",)), {}
    for index in range(3):
        tensors, extras = b.method.orders(server, "a")
        work = b.work(None, index, shared=tensors, extras=extras, private=private)
        outcome = b.method.train(work) if index < 2 else b.method.finish(work)
        if outcome is None:
            continue
        check_declared(outcome.private, b.method.site_state, "a site's state")
        check_declared(outcome.extras, b.method.extras_up, "an update")
        check_reported(outcome.metrics, b.method.reports)
        shared, personal = b.method.split(work)
        private = {**outcome.private, **with_prefix("personal", personal)}
        if index < 2:
            server = b.method.aggregate(server, [Update("a", index, shared, outcome.extras, 6, outcome.metrics)])
            check_declared(server.memory, b.method.server_state, "the server's memory")
            assert server.shared.keys() == set(b.shared)


@every_method
def test_the_last_stage_leaves_the_shared_part_alone(name: str) -> None:
    b = bench(name)
    shared = noisy(b.start)
    work = b.work(shared=shared)
    b.method.finish(work)
    assert equal(b.method.split(work)[0], shared)


def test_the_mean_of_one_site_is_that_site(trained: tuple[Bench, Server, Update]) -> None:
    """Bit for bit under the default rule; a server with an optimiser of its own may go on from there."""
    b, server, update = trained
    if type(b.method).aggregate is base.Method.aggregate:
        assert equal(b.method.aggregate(server, [update]).shared, update.tensors)


def test_sites_that_change_nothing_change_nothing(trained: tuple[Bench, Server, Update]) -> None:
    """Under any rule: the first state comes back from updates that equal it."""
    b, server, update = trained
    nothing = {name: torch.zeros_like(extra) for name, extra in update.extras.items()}
    same = replace(update, tensors=server.shared, extras=nothing)
    found = b.method.aggregate(server, [replace(same, site=site, samples=n) for n, site in enumerate(SITES, 1)]).shared
    assert found.keys() == server.shared.keys()
    assert all(torch.allclose(found[name], tensor, atol=1e-6) for name, tensor in server.shared.items())


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(arrival=st.permutations(SITES))
def test_the_order_of_arrival_changes_nothing(trained: tuple[Bench, Server, Update], arrival: list[str]) -> None:
    """Bit for bit: sums run in the order of the sites."""
    b, server, update = trained
    updates = {
        site: replace(update, site=site, samples=10**n + 7, tensors=noisy(update.tensors, n))
        for n, site in enumerate(SITES)
    }
    arrived = in_site_order([Delivery(updates[site], 0, 0) for site in arrival], SITES, 0)
    found = b.method.aggregate(server, [d.reply for d in arrived if isinstance(d.reply, Update)])
    expected = b.method.aggregate(server, [updates[site] for site in SITES])
    assert equal(found.shared, expected.shared) and equal(found.memory, expected.memory)


@every_method
def test_a_round_can_be_repeated(name: str, tmp_path: Path) -> None:
    """The same order to two hospitals with the same pictures, another's round between: the same update, bit for bit."""
    b = bench(name, None, replace(TRAINING, local_steps=2))
    server = started(b)
    first = an_update(b, tmp_path / "first", server)
    an_update(b, tmp_path / "other", server, "b")
    again = an_update(b, tmp_path / "again", server)
    assert equal(first.tensors, again.tensors) and equal(first.extras, again.extras)
    assert first.metrics == again.metrics


@every_method
def test_a_round_starts_from_what_was_sent_or_the_method_says_otherwise(name: str) -> None:
    """Seen in a second round that takes no step to speak of, after a first that moved this site away from the mean."""
    b = bench(name)
    server = started(b, ("a",))
    work = b.work(shared=server.shared, extras=b.method.orders(server, "a")[1])
    outcome = b.method.train(work)
    shared, personal = b.method.split(work)
    update = Update("a", 0, noisy(shared), outcome.extras, 6, outcome.metrics)
    tensors, extras = b.method.orders(b.method.aggregate(server, [update]), "a")
    private = {**outcome.private, **with_prefix("personal", personal)}
    still = replace(b.training, lr=1e-30)
    work = b.work(None, 1, shared=tensors, extras=extras, private=private, training=still)
    b.method.train(work)
    moved = {n for n, tensor in b.method.split(work)[0].items() if not torch.allclose(tensor, tensors[n], atol=1e-6)}
    own = {n for n in b.shared if not b.method.starts_as_sent(n)}
    assert moved <= own and bool(moved) == bool(own)


@every_method
def test_small_updates_are_taken(name: str, tmp_path: Path) -> None:
    """Eight bits a number: sound at the server; what rounding left out stays at the site, if it is to be sent later."""
    b = bench(name, None, replace(TRAINING, local_steps=1, updates="int8"))
    server, worker, order = started(b, ("a",)), b.worker(tmp_path), Order("train", "a", 0, {})
    for index in range(2):
        tensors, extras = b.method.orders(server, "a")
        order = Order("train", "a", index, tensors, extras, str(index), index - 1, order.fingerprint)
        small = SmallUpdates.of(Experiment(training=b.training))
        update = received(worker.handle(order), order, b.start, small)
        assert isinstance(update, Update)
        assert refusal(update, index, b.start, b.method.extras_up, b.method.reports) == ""
        unsent = without_prefix(UNSENT, read_state(tmp_path / "a" / "staged.safetensors")[0])
        assert unsent.keys() == {n for n in b.shared if b.method.starts_as_sent(n)}
        for n, left in unsent.items():
            meant = update.tensors[n] + left - tensors[n]
            assert left.abs().max() <= 1.01 / 127 * meant.abs().max() + 1e-6
        server = b.method.aggregate(server, [update])


def test_training_moves_what_it_may_and_nothing_else(trained: tuple[Bench, Server, Update]) -> None:
    b, server, _ = trained
    tensors, extras = b.method.orders(server, "a")
    work = b.work(shared=tensors, extras=extras)
    fixed = [name for name, _ in b.model.named_parameters() if name not in b.backbone.live]
    before = take(b.model, fixed)
    b.method.train(work)
    assert equal(take(b.model, fixed), before)
    shared, personal = b.method.split(work)
    start: State = b.backbone.start
    assert any(not torch.equal(start[name], tensor) for name, tensor in (shared | personal).items())
    put(b.model, start)


def test_local_only_shares_nothing(tmp_path: Path) -> None:
    b = bench("local_only")
    update = an_update(b, tmp_path, started(b))
    assert update.tensors == {} and b.shared == () and b.personal == b.backbone.live
    assert b.method.judged == ("personal",)


def test_centralised_is_fedavg_over_one_site(tmp_path: Path) -> None:
    """Two rounds, bit for bit."""
    found = []
    for name in ("centralised", "fedavg"):
        b = bench(name, None, replace(TRAINING, local_steps=2))
        server = started(b, ("a",))
        worker = b.worker(tmp_path / name)
        for index in range(2):
            accepted = {"accepted": index - 1, "origin": "0"} if index else {}
            order = Order("train", "a", index, server.shared, fingerprint=str(index), **accepted)  # type: ignore[arg-type]
            update = worker.handle(order)
            assert isinstance(update, Update)
            server = b.method.aggregate(server, [update])
        found.append(server.shared)
    assert equal(*found)
    assert bench("centralised").method.pooled and not bench("fedavg").method.pooled


@pytest.mark.parametrize("kept", ["reset", "keep"])
def test_moments_of_the_shared_part_are_kept_where_asked(kept: Any) -> None:
    b = bench("fedavg", None, replace(TRAINING, optimiser_state=kept, local_steps=2))
    private: State = {}
    for index in range(2):
        private = b.method.train(b.work(None, index, private=private)).private
    steps = {float(tensor) for name, tensor in private.items() if name.endswith("|step")}
    assert steps == ({4.0} if kept == "keep" else set())
