"""Updates that wait on disk: order, contents, memory, and nothing left behind."""

from __future__ import annotations

import os
import subprocess
import sys
import weakref
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tiny
from federation import hand
from federation.hand import start, template, update
from federation.test_leading import led
from sammit.config import EvaluationConfig
from sammit.errors import UserError
from sammit.federation import rounds
from sammit.federation.exchange import Delivery, in_site_order
from sammit.federation.rounds import Rounds
from sammit.federation.spill import Spill
from sammit.federation.stored import BLOCK, Stored
from sammit.methods.base import Method, Server
from sammit.methods.state import WeightedMean
from sammit.vocabulary import Declared, Failure, Order, Reply, State, Update

SITES = tuple("abcdefgh")
TYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int8, torch.uint8]


def answer(order: Order) -> Update:
    """Random tensors, the same for the same site."""
    draw = torch.Generator().manual_seed(SITES.index(order.site))
    tensors = {name: torch.randn(t.shape, generator=draw) for name, t in template().items()}
    return update(order, tensors=tensors, samples=3 + SITES.index(order.site))


class Arriving:
    """A transport whose replies arrive in some order, some not at all; it counts updates that are in memory."""

    def __init__(self, arrival: Iterable[str], waiting: Path | None = None) -> None:
        self.arrival, self.waiting = tuple(arrival), waiting
        self.alive: weakref.WeakSet[torch.Tensor] = weakref.WeakSet()
        self.most = self.files = 0

    def exchange(self, orders: Iterable[Order]) -> Iterator[Delivery]:
        """Each reply is made when it arrives."""
        asked = {order.site: order for order in orders}
        for site in self.arrival:
            yield Delivery(self.made(asked[site]), 1, 1)
            self.most = max(self.most, len(self.alive))
            if self.waiting and self.waiting.exists():
                self.files = max(self.files, len(list(self.waiting.iterdir())))

    def made(self, order: Order) -> Reply:
        reply = answer(order)
        self.alive.add(reply.tensors["a.weight"])
        return reply


def loop(transport: Any, waiting: Path, method: Method | None = None) -> Rounds:
    """A round without scores."""
    rounds = hand.loop(transport, SITES, method)
    rounds.waiting = waiting
    rounds.experiment = replace(rounds.experiment, evaluation=EvaluationConfig(every=0, selection="last"))
    return rounds


def shared_after(arrival: Iterable[str], folder: Path) -> tuple[State, dict[str, Any]]:
    """The server's tensors and the log's line after a round."""
    progress = loop(Arriving(arrival), folder / "waiting").run(start())
    return progress.server.shared, {name: entry for name, entry in progress.log[0].items() if name != "seconds"}


def equal(first: State, second: State) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


class Median(Method):
    """Looks at every update for each tensor: a rule that cannot begin before it has all."""

    all_at_once: ClassVar[bool] = True

    def aggregate(self, server: Server, updates: Iterable[Update]) -> Server:
        """The median of each number, one tensor of all sites in memory at a time."""
        sites = list(updates)
        return Server({name: torch.stack([u.tensors[name] for u in sites]).median(0).values for name in server.shared})


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(arrival=st.permutations(SITES), lost=st.sets(st.sampled_from(SITES), max_size=3))
def test_early_late_or_never_the_sums_are_those_of_site_order(
    tmp_path: Path, arrival: list[str], lost: set[str]
) -> None:
    """Bit for bit, and the log is the same."""
    found, line = shared_after([site for site in arrival if site not in lost], tmp_path)
    wanted, wanted_line = shared_after([site for site in SITES if site not in lost], tmp_path)
    assert equal(found, wanted) and line == wanted_line
    assert line["failed"] == dict.fromkeys((site for site in SITES if site in lost), "did not answer")


@pytest.mark.parametrize(("arrival", "waited"), [("abcdefgh", 0), ("hgfedcba", 7), ("badcfehg", 1), ("bcdefgha", 7)])
def test_memory_holds_one_or_two_updates(tmp_path: Path, arrival: str, waited: int) -> None:
    """Whether they come in order, in reverse, in pairs, or all before the first; afterwards no file is left."""
    transport = Arriving(arrival, tmp_path / "waiting")
    loop(transport, tmp_path / "waiting").run(start())
    assert transport.most <= 2
    assert transport.files == waited
    assert not (tmp_path / "waiting").exists()


def test_a_rule_that_needs_all_gets_them_on_disk(tmp_path: Path) -> None:
    """In site order, tensor by tensor; the result is the median's."""
    transport = Arriving(SITES, tmp_path / "waiting")
    found = loop(transport, tmp_path / "waiting", Median()).run(start()).server.shared
    assert transport.most <= 2 and transport.files == 8
    replies = [answer(Order("train", site, 0, {})) for site in SITES]
    wanted = {name: torch.stack([r.tensors[name] for r in replies]).median(0).values for name in template()}
    assert equal(found, wanted)
    assert not (tmp_path / "waiting").exists()


def test_a_stored_state_is_what_was_put(tmp_path: Path) -> None:
    """Every type that travels, scalars, empty and strided tensors; extras apart; numbers as they were."""
    draw = torch.Generator().manual_seed(0)
    tensors: State = {str(kind): torch.randint(0, 99, (3, 5), generator=draw).to(kind) for kind in TYPES}
    tensors |= {"flag": torch.tensor([True, False]), "scalar": torch.tensor(2.5), "empty": torch.zeros(0, 3)}
    tensors["strided"] = torch.arange(12.0).reshape(3, 4).T
    asked = Order("train", "a", 3, {})
    reply = update(asked, tensors=tensors, extras={"gap": torch.tensor(0.5)})
    with Spill(tmp_path / "waiting") as spill:
        found = spill.put(reply)
        assert isinstance(found.tensors, Stored) and replace(found, tensors=tensors, extras=reply.extras) == reply
        assert equal(dict(found.tensors), tensors) and equal(dict(found.tensors.items()), tensors)
        assert equal(dict(found.extras), {"gap": torch.tensor(0.5)})
        assert all(found.tensors[name].dtype == tensor.dtype for name, tensor in tensors.items())
        assert len(found.tensors) == len(tensors) and "nothing" not in found.tensors
        assert spill.put(found) is found
        spill.drop(found)
        assert list((tmp_path / "waiting").iterdir()) == []


@pytest.mark.parametrize("bad", ["", "first", "long", "between", "last"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_is_named_wherever_it_lies(tmp_path: Path, bad: str, value: float) -> None:
    """Among neighbours that are read together, in a tensor longer than those, and in one of another type."""
    tensors = {name: torch.ones(7) for name in ("first", "between", "other")}
    tensors |= {"long": torch.ones(BLOCK // 4 + 3), "last": torch.ones(5, dtype=torch.bfloat16)}
    tensors |= {"whole": torch.arange(3), "large": torch.full((2,), 3e38)}  # their sum is infinite, they are not
    if bad:
        tensors[bad][3] = value
    with Spill(tmp_path / "waiting") as spill:
        found = spill.put(update(Order("train", "a", 0, {}), tensors=tensors)).tensors
        assert isinstance(found, Stored) and found.first_not_finite() == (bad or None)
        assert sorted(found.forms()) == sorted((n, tuple(t.shape), t.dtype) for n, t in tensors.items())


def test_a_reply_without_tensors_needs_no_file(tmp_path: Path) -> None:
    with Spill(tmp_path / "waiting") as spill:
        failure = Failure("a", 0, "the disk died")
        assert spill.put(failure) is failure
        assert not (tmp_path / "waiting").exists()


def test_files_of_an_engine_are_left_alone(tmp_path: Path) -> None:
    with Spill(tmp_path / "theirs") as theirs, Spill(tmp_path / "waiting") as spill:
        found = theirs.put(update(Order("train", "a", 0, {})))
        spill.drop(found)
        assert equal(dict(found.tensors), dict(update(Order("train", "a", 0, {})).tensors))


def test_a_file_that_is_cut_short_is_told(tmp_path: Path) -> None:
    with Spill(tmp_path / "waiting") as spill:
        found = spill.put(update(Order("train", "a", 0, {})))
        (path,) = (tmp_path / "waiting").iterdir()
        path.write_bytes(path.read_bytes()[:-4])
        with pytest.raises(UserError, match=r"0.safetensors: was cut short .* --resume repeats the round"):
            dict(found.tensors.items())


def test_a_round_that_breaks_leaves_no_file(tmp_path: Path) -> None:
    """The transport dies while updates wait; the next try is as if nothing had been."""

    class Dies(Arriving):
        def exchange(self, orders: Iterable[Order]) -> Iterator[Delivery]:
            yield from super().exchange(orders)
            assert len(list((tmp_path / "waiting").iterdir())) == 3
            raise ConnectionError("the line is cut")

    rounds = loop(Dies("dcb"), tmp_path / "waiting")
    with pytest.raises(ConnectionError):
        rounds.run(start())
    assert not (tmp_path / "waiting").exists() and rounds.saved == []  # type: ignore[attr-defined]


KILLED = """
import os, sys
from pathlib import Path
from federation import test_spill as t

class Killed(t.Arriving):
    def exchange(self, orders):
        yield from super().exchange(orders)
        os._exit(9)

folder = Path(sys.argv[1])
t.loop(Killed("hgfb"), folder / "waiting").run(t.start())
"""


def test_what_a_killed_round_left_is_not_used(tmp_path: Path) -> None:
    """The files of four updates lie about; the round is done anew, and they are gone."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], env=environment)
    assert done.returncode == 9 and len(list((tmp_path / "waiting").iterdir())) == 4
    found = loop(Arriving("hgfedcba"), tmp_path / "waiting").run(start()).server.shared
    assert equal(found, shared_after(SITES, tmp_path / "other")[0])
    assert not (tmp_path / "waiting").exists()


def test_one_that_nobody_asked_for_or_who_answers_twice_takes_no_file() -> None:
    """It is dropped before it is put anywhere."""
    put: list[str] = []

    def remember(reply: Reply) -> Reply:
        put.append(reply.site)
        return reply

    sent = [Delivery(update(Order("train", site, 0, {})), 0, 0) for site in ("b", "b", "stranger", "a", "a")]
    found = [d.reply.site for d in in_site_order(sent, ("a", "b", "c"), 0, remember)]
    assert found == ["a", "b", "c"] and put == ["b"]


def test_orders_are_made_one_at_a_time(tmp_path: Path) -> None:
    """What a method makes for one site is not held for the others."""
    alive: weakref.WeakSet[torch.Tensor] = weakref.WeakSet()
    most = 0

    class Private(Method):
        extras_down: ClassVar[tuple[Declared, ...]] = (Declared("gift", (4,), "float32", "for one site alone"),)

        def orders(self, server: Server, site: str) -> tuple[State, State]:
            gift = torch.zeros(4)
            alive.add(gift)
            return server.shared, {"gift": gift}

    class OneByOne(Arriving):
        def exchange(self, orders: Iterable[Order]) -> Iterator[Delivery]:
            nonlocal most
            for order in orders:
                most = max(most, len(alive))
                yield Delivery(self.made(order), 1, 1)

    loop(OneByOne(SITES), tmp_path / "waiting", Private()).run(start())
    assert 1 <= most <= 2


def test_states_that_last_have_the_same_mean(tmp_path: Path) -> None:
    """Tensor by tensor at the end, or all of each as it comes: bit for bit, while the files are there."""
    draw = torch.Generator().manual_seed(0)
    states = [{"one": torch.randn(70_000, generator=draw), "two": torch.randn(3, generator=draw)} for _ in range(4)]
    fed, lasting = WeightedMean(), WeightedMean()
    asked = Order("train", "a", 0, {})
    with Spill(tmp_path / "waiting") as spill:
        for weight, state in enumerate(states, 1):
            fed.add(state, weight)
            lasting.add(spill.put(update(asked, tensors=state), lasting=True).tensors, weight)
        means = fed.mean(), lasting.mean()
    assert means[0].keys() == means[1].keys() and all(torch.equal(means[0][name], means[1][name]) for name in means[0])


def test_large_updates_on_disk_give_the_same_round(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Across hospitals, with every update taken for a large one."""
    tiny.make_sites(tmp_path / "root")
    once = {"training": {"rounds": 1}, "evaluation": {"every": 0, "selection": "last"}}
    outs = [led(tmp_path / "root", tmp_path / "sites", tmp_path / "usual", "fedavg", **once)]
    monkeypatch.setattr(rounds, "LARGE", 0)
    outs.append(led(tmp_path / "root", tmp_path / "others", tmp_path / "large", "fedavg", **once))
    first, second = ((out / "models" / "last.safetensors").read_bytes() for out in outs)
    assert first == second
