"""The Method contract carries what it was not written for: FedRep, Ditto and SCAFFOLD in a few lines each.

Each site's loss is a square, a / 2 (body + head - b)^2, so that every answer is known. These are no plugins: they show
that the hooks suffice (docs/decisions/0003-method-contract.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sammit.config import Experiment, TrainingConfig
from sammit.errors import UserError
from sammit.federation.guard import check_declared, refusal
from sammit.federation.memory import PrivateMemory
from sammit.federation.worker import Backbone, Worker
from sammit.geometry import View
from sammit.learning.loop import fit
from sammit.methods import base
from sammit.methods.base import Outcome, Server, Which, Work
from sammit.methods.state import copied, fingerprint, put, select, squared_norm, take, with_prefix, without_prefix
from sammit.vocabulary import Batch, Case, Declared, Loaded, Order, Part, SiteData, State, Update

PLAIN = TrainingConfig(
    rounds=60,
    local_steps=5,
    lr=0.1,
    optimiser="sgd",
    momentum=0.0,
    weight_decay=0.0,
    clip=0.0,
    schedule="constant",
    warmup=0.0,
)


class Point(nn.Module):
    """Two numbers; what the model says is their sum."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Parameter(torch.zeros(()))
        self.head = nn.Parameter(torch.zeros(()))

    def forward(self, images: Tensor) -> Tensor:
        return (self.body + self.head).expand(len(images), 1, 1, 1)


@dataclass
class Square:
    """A site whose loss is a / 2 (x - b)^2; notes what the model's numbers were when a batch was asked for."""

    name: str
    a: float
    b: float
    count: int = 1
    model: nn.Module | None = None
    seen: list[tuple[str, float, float]] = field(default_factory=list)
    structures: tuple[str, ...] = ("x",)

    def cases(self, part: Part) -> list[Case]:
        return []

    def samples(self, part: Part) -> int:
        return self.count

    def batches(self, steps: int, batch_size: int, key: tuple[object, ...]) -> Iterator[Batch]:
        for _ in range(steps):
            if self.model is not None:
                self.seen.append((str(key[-1]), *(float(p.detach()) for p in self.model.parameters())))  # type: ignore[arg-type]
            yield Batch(torch.full((1, 3, 1, 1), self.a), torch.full((1, 1, 1, 1), self.b), torch.ones(1, 1, 1, 1))

    def load(self, case: Case) -> Loaded:
        raise KeyError(case.name)


class OnSquares(base.Method):
    """Any method with the squares for a loss."""

    def segmentation(self, work: Work, logits: Tensor, batch: Batch) -> Tensor:
        return batch.images.mean() / 2 * (logits - batch.truth).square().mean()


@dataclass
class Federation:
    """The server's loop without scoring, over hospitals' workers around one model."""

    method: base.Method
    sites: list[Square]
    folder: Path
    training: TrainingConfig = PLAIN
    updates: list[Update] = field(default_factory=list)
    orders: list[Order] = field(default_factory=list)

    def run(self, rounds: int) -> Server:
        """The server's state after some rounds; what the method does not declare is refused as in a real run."""
        method, model = self.method, Point()
        experiment = Experiment(training=self.training)
        backbone = Backbone.of(model, ["body", "head"])
        template = select(backbone.start, set(method.shared_names(backbone.live)).__contains__)
        _, memory = method.plan(experiment, {site.name: method.survey(site) for site in self.sites})
        server, mark = Server(template, memory), ""
        self.workers = {}
        for site in self.sites:
            site.model = model
            private = PrivateMemory(self.folder / site.name)
            self.workers[site.name] = Worker(site, View("whole", 8), method, backbone, private, experiment)
        for index in range(rounds):
            self.updates = list(self._round(server, index, mark, template))
            mark = fingerprint(server.shared)
            server = method.aggregate(server, self.updates)
            check_declared(server.memory, method.server_state, "the server's memory")
        for site in self.sites:  # the last round's private state is committed by an order that says it was taken
            self.workers[site.name].handle(Order("keep", site.name, rounds - 1, {}, accepted=rounds - 1, origin=mark))
        return server

    def _round(self, server: Server, index: int, before: str, template: State) -> Iterator[Update]:
        for site in self.sites:
            tensors, extras = self.method.orders(server, site.name)
            check_declared(extras, self.method.extras_down, "an order")
            order = Order("train", site.name, index, tensors, extras, fingerprint(server.shared), index - 1, before)
            update = self.workers[site.name].handle(order)
            assert refusal(update, index, template, self.method.extras_up) == ""
            assert isinstance(update, Update)
            yield update

    def private(self, site: str) -> State:
        return self.workers[site].memory.committed()[0]

    @torch.no_grad()
    def answer(self, site: str, which: Which, shared: State) -> float:
        """What a model says at a site, put together as for scoring."""
        worker = self.workers[site]
        own = worker.method.personal(self.private(site)) if which == "personal" else {}
        model = worker.as_model(which, shared, own)
        said = float(model(torch.zeros(1, 3, 1, 1)))
        worker.method.use(model, worker.method.judged[-1])
        return said


def two_squares() -> list[Square]:
    """Steep and flat: the sum of their losses is least at (1 * 0 + 4 * 1) / 5 = 0.8."""
    return [Square("flat", 1.0, 0.0), Square("steep", 4.0, 1.0)]


# FedRep (Collins et al., 2102.07078): the head with the body frozen, then the body with the head frozen


class FedRep(OnSquares):
    """Two phases of a round; the body alone travels."""

    judged = ("global", "personal")
    reported: Which = "personal"

    def shares(self, name: str) -> bool:
        return not name.startswith("head")

    def train(self, work: Work) -> Outcome:
        """One step on the head, the rest on the body."""
        head = work.trainer(self.personal_names(work.live), 1)
        body = work.trainer(self.shared_names(work.live), work.steps - 1)
        for stage, trainer in (("head", head), ("body", body)):
            fit(trainer, work.batches(trainer.steps, stage), self.objective(work))
        return Outcome({}, {}, {"loss": body.mean_loss, "steps": head.done + body.done})


def test_fedrep_trains_head_then_body(tmp_path: Path) -> None:
    """By hand from 0: the head takes one step of 0.1 * a * b, then the body goes on with the head where it is."""
    run = Federation(FedRep(), two_squares(), tmp_path)
    server = run.run(1)
    bodies = []
    for site in run.sites:
        head = 0.1 * site.a * site.b
        body = (site.b - head) * (1 - (1 - 0.1 * site.a) ** 4)  # four steps towards b - head
        assert [stage for stage, _, _ in site.seen] == ["head", *["body"] * 4]
        assert [now[1] for now in site.seen[:2]] == [0.0, 0.0]
        assert [now[2] for now in site.seen[1:]] == pytest.approx([head] * 4)
        assert float(run.private(site.name)["personal.head"]) == pytest.approx(head)
        bodies.append(body)
    assert server.shared.keys() == {"body"}
    assert float(server.shared["body"]) == pytest.approx(sum(bodies) / 2)


def test_fedreps_heads_make_up_for_the_sites(tmp_path: Path) -> None:
    """After enough rounds every site is right, each with a head of its own."""
    run = Federation(FedRep(), two_squares(), tmp_path)
    server = run.run(60)
    for site in run.sites:
        assert float(server.shared["body"] + run.private(site.name)["personal.head"]) == pytest.approx(site.b, abs=1e-3)


# Ditto (Li et al., 2012.04221): a second model v, pulled to the global one, which is trained as if v were not there


class Ditto(OnSquares):
    """min_v F_k(v) + lambda / 2 ||v - w^t||^2 beside federated averaging."""

    judged = ("global", "personal")
    reported: Which = "personal"
    site_state = (Declared("own.", None, "float32", "this site's second model"),)
    pull = 1.0

    def train(self, work: Work) -> Outcome:
        received = copied(work.order.tensors)
        put(work.model, received)  # the worker has put v there
        sent = super().train(work)
        trained = take(work.model, received)
        put(work.model, without_prefix("own", work.private) or received)
        trainer = work.trainer(received, work.steps)
        fit(trainer, work.batches(work.steps, "own"), self._near(work, received))
        own = take(work.model, received)
        put(work.model, trained)
        return Outcome(with_prefix("own", own), {}, sent.metrics)

    def personal(self, private: State) -> State:
        return without_prefix("own", private)

    def _near(self, work: Work, received: State) -> Callable[[Batch], Tensor]:
        plain, now = self.objective(work), dict(work.model.named_parameters())

        def objective(batch: Batch) -> Tensor:
            away = squared_norm({name: now[name] - start for name, start in received.items()})
            return plain(batch) + self.pull / 2 * away

        return objective


def test_dittos_global_model_is_fedavgs(tmp_path: Path) -> None:
    """Bit for bit: the second model leaves no trace in what travels."""
    ditto = Federation(Ditto(), two_squares(), tmp_path / "ditto").run(5)
    fedavg = Federation(OnSquares(), two_squares(), tmp_path / "fedavg").run(5)
    assert ditto.shared == fedavg.shared and ditto.shared["body"] != 0


def test_dittos_own_model_lies_between_the_site_and_the_global_one(tmp_path: Path) -> None:
    """Body and head alike, x = 2 w: least where 2 a (x - b) + lambda (x - x_global) = 0; and the worker loads it."""
    run = Federation(Ditto(), two_squares(), tmp_path)
    server = run.run(60)
    center = float(server.shared["body"] + server.shared["head"])
    for site in run.sites:
        expected = (2 * site.a * site.b + center) / (2 * site.a + 1)
        assert run.answer(site.name, "personal", server.shared) == pytest.approx(expected, abs=1e-3)
        assert run.answer(site.name, "global", server.shared) == pytest.approx(center)


# SCAFFOLD (Karimireddy et al., 1910.06378): control variates up and down, a state at both ends, a corrected gradient


class Scaffold(OnSquares):
    """Steps along g + c - c_k, that is on the loss plus <c - c_k, w>; option II for the new control."""

    surveyed = (Declared("here", (), "int64", "one for each site"),)
    extras_up = (Declared("control.", None, "float32", "change of the site's control variate"),)
    extras_down = (Declared("control.", None, "float32", "the server's control variate c"),)
    server_state = (
        Declared("control.", None, "float32", "the server's control variate c"),
        Declared("sites", (), "int64", "K, also where some do not answer"),
    )
    site_state = (Declared("control.", None, "float32", "this site's control variate c_k"),)

    def survey(self, site: SiteData) -> State:
        return {"here": torch.tensor(1)}

    def plan(self, experiment: Experiment, surveys: Mapping[str, State]) -> tuple[Experiment, State]:
        return experiment, {"sites": torch.stack([survey["here"] for survey in surveys.values()]).sum()}

    def orders(self, server: Server, site: str) -> tuple[State, State]:
        return server.shared, with_prefix("control", self._control(server.memory, server.shared))

    def train(self, work: Work) -> Outcome:
        start = copied(work.order.tensors)
        common, own = (self._control(state, start) for state in (work.order.extras, work.private))
        trainer = work.trainer(start, work.steps)
        loss = fit(trainer, work.batches(work.steps, "train"), self._corrected(work, common, own))
        now = take(work.model, start)
        new = {n: own[n] - common[n] + (start[n] - now[n]) / trainer.rate_sum(n) for n in start}
        change = {name: new[name] - own[name] for name in start}
        return Outcome(
            with_prefix("control", new), with_prefix("control", change), {"loss": loss, "steps": trainer.done}
        )

    def aggregate(self, server: Server, updates: Iterable[Update]) -> Server:
        control, count = self._control(server.memory, server.shared), int(server.memory["sites"])
        shared = base.WeightedMean()
        for update in updates:
            shared.add(update.tensors, 1)
            change = without_prefix("control", update.extras)
            control = {name: c + change[name] / count for name, c in control.items()}
        return Server(shared.mean() or server.shared, {**server.memory, **with_prefix("control", control)})

    def _corrected(self, work: Work, common: State, own: State) -> Callable[[Batch], Tensor]:
        plain, now = self.objective(work), dict(work.model.named_parameters())

        def objective(batch: Batch) -> Tensor:
            bend = torch.stack([((common[name] - own[name]) * now[name]).sum() for name in own])
            return plain(batch) + bend.sum()

        return objective

    def _control(self, state: State, like: State) -> State:
        return without_prefix("control", state) or {name: torch.zeros_like(t) for name, t in like.items()}


def test_scaffolds_first_controls_are_mean_gradients(tmp_path: Path) -> None:
    """By hand from 0: five steps, body and head alike, so x closes by 1 - 0.2 a each; c is the mean of the c_k."""
    run = Federation(Scaffold(), two_squares(), tmp_path)
    server = run.run(1)
    controls = []
    for site in run.sites:
        x = site.b * (1 - (1 - 0.2 * site.a) ** 5)
        controls.append(-x / 2 / (5 * 0.1))  # (w_0 - w_5) over the sum of the rates
        assert float(run.private(site.name)["control.body"]) == pytest.approx(controls[-1], abs=1e-6)
    assert float(server.memory["control.body"]) == pytest.approx(sum(controls) / 2, abs=1e-6)
    assert int(server.memory["sites"]) == 2


def test_scaffold_finds_what_fedavg_misses(tmp_path: Path) -> None:
    """In five steps the steep site nearly reaches its own answer, the flat one does not; their mean is elsewhere."""
    answer = {}
    for method in (OnSquares(), Scaffold()):
        server = Federation(method, two_squares(), tmp_path / type(method).__name__).run(60)
        answer[type(method).__name__] = float(server.shared["body"] + server.shared["head"])
    assert answer["Scaffold"] == pytest.approx(0.8, abs=1e-3)
    assert abs(answer["OnSquares"] - 0.8) > 0.05


def test_scaffold_divides_by_all_sites_where_one_is_silent() -> None:
    """c moves by 1 / K of the change, K counted before the first round."""
    method = Scaffold()
    _, memory = method.plan(Experiment(), {name: method.survey(Square(name, 1, 0)) for name in "abcd"})
    server = Server({"body": torch.zeros(())}, memory)
    update = Update("a", 0, server.shared, {"control.body": torch.tensor(2.0)}, 1, {})
    assert float(method.aggregate(server, [update]).memory["control.body"]) == 0.5


@pytest.mark.parametrize("undeclared", ["extras", "private"])
def test_what_is_not_declared_does_not_leave_or_stay(tmp_path: Path, undeclared: str) -> None:
    class Loose(OnSquares):
        def train(self, work: Work) -> Outcome:
            done = super().train(work)
            odd: dict[str, Any] = {"private": done.private, "extras": {}, "metrics": done.metrics}
            return Outcome(**{**odd, undeclared: {"mean_pixel": torch.zeros(1)}})

    with pytest.raises(UserError, match="undeclared tensor 'mean_pixel'"):
        Federation(Loose(), two_squares(), tmp_path).run(1)
