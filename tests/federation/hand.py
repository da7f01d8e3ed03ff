"""Hand-made updates and transports: the round loop without any training."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import torch

from sammit.config import Experiment, TrainingConfig
from sammit.federation.exchange import Delivery
from sammit.federation.messages import decode, encode
from sammit.federation.rounds import Progress, Rounds
from sammit.methods.base import Method, Server
from sammit.vocabulary import Done, Judgement, Order, Reply, State, Update

Answer = Callable[[Order], Reply]


def template() -> State:
    """Two shared tensors."""
    return {"a.weight": torch.zeros(2, 3), "b.bias": torch.zeros(4)}


def update(order: Order, value: float = 1.0, samples: int = 1, **changes: Any) -> Update:
    """A sound answer to a training order: every shared tensor filled with `value`."""
    tensors = {name: torch.full_like(tensor, value) for name, tensor in template().items()}
    return replace(Update(order.site, order.round, tensors, {}, samples, {"loss": 0.5, "steps": 2}), **changes)


class HandMade:
    """A transport whose sites answer by hand, in a given order of arrival; remembers orders and bytes."""

    def __init__(self, answers: dict[str, Answer], arrival: Sequence[str] | None = None) -> None:
        self.answers, self.arrival = answers, list(arrival or answers)
        self.orders: list[Order] = []
        self.sizes: list[tuple[str, str, int, int]] = []

    def exchange(self, orders: Sequence[Order]) -> Iterator[Delivery]:
        """Deliveries in the order of arrival."""
        by_site = {order.site: order for order in orders}
        for site in [name for name in self.arrival if name in by_site]:
            order = by_site[site]
            self.orders.append(order)
            reply: Reply = Done(site, order.round)
            if order.kind in ("evaluate", "score"):
                reply = Judgement(site, order.round, order.part, {"global": 0.5})
            elif order.kind == "train":
                reply = self.answers[site](order)
            down, up = encode(order), encode(reply)
            self.sizes.append((order.kind, site, len(down), len(up)))
            yield Delivery(decode(up), len(down), len(up))


def loop(transport: Any, sites: Sequence[str], method: Method | None = None, **training: Any) -> Rounds:
    """The round loop over a transport; what it saves goes to `saved`."""
    experiment = Experiment(training=replace(TrainingConfig(rounds=1), **training))
    saved: list[Progress] = []
    rounds = Rounds(
        method or Method(),
        experiment,
        transport,
        tuple(sites),
        tuple(sites),
        template(),
        saved.append,
        lambda row: None,
        Path(mkdtemp()),
    )
    rounds.saved = saved  # type: ignore[attr-defined]
    return rounds


def start() -> Progress:
    """Before the first round."""
    return Progress(Server(template()))


def folder_of(path: Path, site: str) -> Path:
    """A simulated site's own folder in a run."""
    return path / "checkpoint" / "sites" / site
