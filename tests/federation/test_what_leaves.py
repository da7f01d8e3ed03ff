"""What crosses the line between a site and the server, for every method, proved on the bytes of whole runs.

Each method runs for two rounds at two sites through the engine, with messages as bytes. The same searches are then
shown to find what leaking methods send.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import tiny
from federation.tap import WINDOW, Tap, carried, named, occurrences, private_windows, undeclared
from sammit.config import Experiment
from sammit.errors import UserError
from sammit.federation import prepare as preparing
from sammit.federation import rounds, worker
from sammit.methods import base, ditto, fedper
from sammit.methods.base import Outcome, Server, Work
from sammit.methods.state import take, with_prefix, without_prefix
from sammit.vocabulary import Declared, Failure, State, Update

Run = Callable[[base.Method, Tap], Tap]
SURNAMES = {"aster": "okapi", "birch": "quagga"}
TRAINING = {
    "optimiser_state": "keep", "batch_size": 1, "optimiser": "sgd", "lr": 0.05, "clip": 0.0, "weight_decay": 0.0
}  # fmt: skip
"""Plain steps: from one start AdamW takes two models the same first step, whatever the scale of their gradients."""


@pytest.fixture(scope="module")
def hospitals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The two generated sites, with names of patients that nothing else contains."""
    root = tmp_path_factory.mktemp("hospitals")
    tiny.make_sites(root)
    for path in sorted(root.glob("*/*/p*.png")):
        patient, _, image = path.stem.partition("-")
        path.rename(path.with_name(f"{SURNAMES[path.parts[-3]]}-{patient}_{image}.png"))
    recipe = root / "dataset.toml"
    recipe.write_text(recipe.read_text().replace("^(p[0-9]+)-", "^([a-z]+-p[0-9]+)_"))
    return root


def experiment(root: Path, method: str = "fedavg") -> Experiment:
    return tiny.experiment(root, method, data={"size": 16}, training=TRAINING)


def words(tap: Tap, out: Path) -> set[str]:
    """Names of cases and of patients, and the places of files."""
    cases = [case for site in tap.known.sites for part in ("train", "val", "test") for case in site.cases(part)]  # type: ignore[arg-type]
    found = {case.name for case in cases} | {case.patient for case in cases}
    assert {name.partition("-")[0] for name in found} == {"okapi", "quagga"} and len(cases) == 14
    return found | {str(cases[0].image[0].parents[2]), str(out), "/images/", "/masks/"}


@pytest.fixture(scope="module", params=tiny.METHODS)
def tapped(
    request: pytest.FixtureRequest, hospitals: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Tap, Path]]:
    """A run of a method, listened to."""
    out = tmp_path_factory.mktemp(request.param)
    yield Tap().run(experiment(hospitals, request.param), out / "run"), out
    shutil.rmtree(out)


def test_every_kind_of_message_was_heard(tapped: tuple[Tap, Path]) -> None:
    """Two rounds at each site that trains, and the scores; no site writes private state that the tap does not see."""
    tap, out = tapped
    kinds = {message.where.partition(" ")[0] for message in tap.messages}
    assert kinds >= {"train", "evaluate", "keep", "finish", "score", "Update", "Judgement", "Done"}
    updates = [message.said for message in tap.replies() if isinstance(message.said, Update)]
    assert len(updates) == 2 * len(tap.known.trainers) and len(tap.orders()) == len(tap.replies())
    written = {path.parent.name for path in out.rglob("final.safetensors")}
    assert written == {site for site, _, _ in tap.states} == {site.name for site in tap.known.trainers}


def test_messages_hold_what_is_shared_and_what_is_declared(tapped: tuple[Tap, Path]) -> None:
    """Shared names, declared extras, declared numbers, and nothing that no name stands for."""
    tap, _ = tapped
    assert undeclared(tap) == []


def test_no_name_of_what_is_private_is_in_a_message(tapped: tuple[Tap, Path]) -> None:
    """Of a personal tensor, of private state, of a case, of a patient, of a file."""
    tap, out = tapped
    assert named(tap, words(tap, out)) == []


def test_no_private_tensor_is_in_a_message(tapped: tuple[Tap, Path]) -> None:
    """Neither from a site to the server nor back to any site."""
    tap, _ = tapped
    looked_for = private_windows(tap).values()
    kept = {key.partition(".")[0] for _, key, _ in looked_for}
    assert "optimiser" in kept and ("personal" in kept) == bool(tap.known.personal)
    assert {site for site, _, _ in looked_for} == {site.name for site in tap.known.trainers}
    assert carried(tap) == []


# Methods that leak, and are refused or found


@pytest.fixture
def leaky(hospitals: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a method that is none of the plugins."""
    known = preparing.make_method

    def run(method: base.Method, tap: Tap) -> Tap:
        def made(what: Experiment) -> base.Method:
            method.aggregator = known(what).aggregator
            return method

        monkeypatch.setattr(preparing, "make_method", made)
        return tap.run(experiment(hospitals), tmp_path / "run")

    return run


def heads(method: base.Method, work: Work) -> State:
    """What a site must keep to itself."""
    return take(work.model, method.personal_names(work.live))


class Smuggler(fedper.Method):
    """FedPer whose updates hold more than they may."""

    def __init__(self, hidden_in: str) -> None:
        super().__init__()
        self.hidden_in = hidden_in

    def train(self, work: Work) -> Outcome:
        done = super().train(work)
        if self.hidden_in == "extras":
            return replace(done, extras=with_prefix("head", heads(self, work)))
        if self.hidden_in == "metrics":
            return replace(done, metrics={**done.metrics, work.site.cases("train")[0].patient: 1.0})
        return done

    def split(self, work: Work) -> tuple[State, State]:
        shared, personal = super().split(work)
        return ({**shared, **personal} if self.hidden_in == "tensors" else shared), personal


SMUGGLED = {
    "tensors": "undeclared tensor 'detail",
    "extras": "undeclared tensor 'head.mask_decoder",
    "metrics": "undeclared number 'okapi-p",
}


@pytest.mark.parametrize("hidden_in", SMUGGLED)
def test_what_is_not_declared_is_refused_at_the_site(hidden_in: str, leaky: Run) -> None:
    """The run stops, and the server has heard a refusal and seen no tensor."""
    tap = Tap()
    with pytest.raises(UserError, match=SMUGGLED[hidden_in]):
        leaky(Smuggler(hidden_in), tap)
    assert [type(message.said) for message in tap.replies()] == [Failure] * 2
    assert all(message.header.keys() == {"__metadata__"} for message in tap.replies())


@pytest.mark.parametrize("hidden_in", SMUGGLED)
def test_were_it_not_refused_its_form_would_show_it(
    hidden_in: str, leaky: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The search for what is undeclared does not lean on the guards: it finds the same without them."""
    for module in (worker, rounds):
        monkeypatch.setattr(module, "refusal", lambda *given: "")
    tap = leaky(Smuggler(hidden_in), Tap())
    assert any(SMUGGLED[hidden_in].partition("'")[2] in line for line in undeclared(tap))


class Impostor(ditto.Method):
    """Ditto that sends its second model under the names of the first."""

    def train(self, work: Work) -> Outcome:
        done = super().train(work)
        self.own = without_prefix("own", done.private)
        return done

    def split(self, work: Work) -> tuple[State, State]:
        return self.own, {}


class Swapper(fedper.Method):
    """FedPer that puts its head's numbers where the body has a tensor of fewer."""

    def split(self, work: Work) -> tuple[State, State]:
        shared, personal = super().split(work)
        body = max(shared, key=lambda name: shared[name].numel())
        head = max(personal.values(), key=torch.numel).reshape(-1)
        place = shared[body]
        return {**shared, body: head[: place.numel()].clone().reshape(place.shape)}, personal


class Gossip(base.Method):
    """Federated averaging that hides a patient's name in a declared tensor of numbers."""

    extras_up: ClassVar[tuple[Declared, ...]] = (Declared("mood", (2,), "int64", "how the site feels"),)

    def train(self, work: Work) -> Outcome:
        name = work.site.cases("train")[0].patient.encode().ljust(16)
        return replace(super().train(work), extras={"mood": torch.from_numpy(np.frombuffer(name, "<i8").copy())})


class Betrayer(fedper.Method):
    """FedPer whose server hands each site's head to the others, all of it declared."""

    extras_up: ClassVar[tuple[Declared, ...]] = (Declared("gift.", None, "float32", "what a site gives to others"),)
    extras_down: ClassVar[tuple[Declared, ...]] = extras_up
    server_state: ClassVar[tuple[Declared, ...]] = extras_up

    def train(self, work: Work) -> Outcome:
        done = super().train(work)
        return replace(done, extras={"gift.0": max(heads(self, work).values(), key=torch.numel)})

    def aggregate(self, server: Server, updates: Iterable[Update]) -> Server:
        kept = list(updates)
        memory: dict[str, Any] = {f"gift.{update.site}": update.extras["gift.0"] for update in kept}
        return replace(super().aggregate(server, kept), memory=memory)

    def orders(self, server: Server, site: str) -> tuple[State, State]:
        return server.shared, {name: gift for name, gift in server.memory.items() if not name.endswith(site)}


def test_a_second_model_under_the_firsts_names_is_found(leaky: Run, tmp_path: Path) -> None:
    """Every name, shape and type is right; the contents are not."""
    tap = leaky(Impostor(), Tap())
    assert undeclared(tap) == [] and named(tap, words(tap, tmp_path)) == []
    finds = carried(tap)
    assert any("Update from aster" in line and "'own." in line for line in finds)
    assert any("Update from birch, round 1" in line for line in finds)


def test_a_part_of_a_head_in_the_bodys_place_is_found(leaky: Run) -> None:
    """Though only a part of the tensor was sent, in another shape."""
    tap = leaky(Swapper(), Tap())
    assert undeclared(tap) == []
    assert {line.partition(":")[0] for line in carried(tap)} >= {f"Update from {site}, round 0" for site in SURNAMES}


def test_a_patients_name_in_numbers_is_found(leaky: Run, tmp_path: Path) -> None:
    """Declared, of the right shape and type, and no private tensor."""
    tap = leaky(Gossip(), Tap())
    assert undeclared(tap) == [] and carried(tap) == []
    assert any("Update from birch" in line and "quagga-p" in line for line in named(tap, words(tap, tmp_path)))


def test_a_head_that_reaches_another_site_is_found(leaky: Run) -> None:
    """On its way up and on its way down, declared or not."""
    tap = leaky(Betrayer(), Tap())
    assert undeclared(tap) == []
    finds = carried(tap)
    assert any("train to aster, round 1" in line and line.endswith("of birch") for line in finds)
    assert any("train to birch, round 1" in line and line.endswith("of aster") for line in finds)


@given(data=st.binary(max_size=300), needle=st.binary(min_size=WINDOW, max_size=WINDOW), place=st.integers(0, 300))
def test_the_search_finds_a_needle_wherever_it_is(data: bytes, needle: bytes, place: int) -> None:
    """At any offset, aligned or not; and where it is not, it is not found."""
    hay = data[:place] + needle + data[place:]
    assert (needle, min(place, len(data))) in list(occurrences([needle, bytes(WINDOW)], hay))
    assert all(hay[at : at + WINDOW] == found for found, at in occurrences([needle], hay))
    if needle not in data:
        assert list(occurrences([needle], data)) == []
