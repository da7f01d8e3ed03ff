"""Federations whose every answer is known: each site's loss is a square, a / 2 (body + head - b)^2."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from sammit.config import Experiment, TrainingConfig
from sammit.federation.guard import check_declared, refusal
from sammit.federation.memory import PrivateMemory
from sammit.federation.worker import Backbone, Worker
from sammit.geometry import View
from sammit.methods import base
from sammit.methods.base import Server, Which, Work
from sammit.methods.state import fingerprint, select
from sammit.vocabulary import Batch, Case, Loaded, Order, Part, State, Update

BODY, HEAD = "vision_encoder.body", "mask_decoder.head"

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


class Number(nn.Module):
    """One number under a name."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.register_parameter(name, nn.Parameter(torch.zeros(())))


class Point(nn.Module):
    """Two numbers, named as Segment Anything's encoder and decoder are; what the model says is their sum."""

    def __init__(self) -> None:
        super().__init__()
        self.vision_encoder, self.mask_decoder = Number("body"), Number("head")

    def forward(self, images: Tensor) -> Tensor:
        total = torch.stack(list(self.parameters())).sum()
        return total.expand(len(images), 1, 1, 1)


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


def squared(work: Work, logits: Tensor, batch: Batch) -> Tensor:
    """The squares in place of the recipe's segmentation loss."""
    return batch.images.mean() / 2 * (logits - batch.truth).square().mean()


def on_squares(method: base.Method) -> base.Method:
    """The same method with the squares for a loss."""
    method.segmentation = squared  # type: ignore[method-assign]
    return method


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
        backbone = Backbone.of(model, [BODY, HEAD])
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
            assert refusal(update, index, template, self.method.extras_up, self.method.reports) == ""
            assert isinstance(update, Update)
            yield update

    def private(self, site: str) -> State:
        return self.workers[site].memory.committed()[0]

    @torch.no_grad()
    def answer(self, site: str, which: Which, shared: State) -> float:
        """What a model says at a site, put together as for scoring."""
        worker = self.workers[site]
        own = worker.method.personal(self.private(site), shared) if which == "personal" else {}
        model = worker.as_model(which, shared, own)
        said = float(model(torch.zeros(1, 3, 1, 1)))
        worker.method.use(model, worker.method.judged[-1])
        return said


def two_squares() -> list[Square]:
    """Steep and flat: the sum of their losses is least at (1 * 0 + 4 * 1) / 5 = 0.8."""
    return [Square("flat", 1.0, 0.0), Square("steep", 4.0, 1.0)]
