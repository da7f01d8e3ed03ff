"""A site's side: from an order to a reply. Private tensors and cases never get into a reply."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from torch import nn

from sammit.config import Experiment
from sammit.errors import UserError
from sammit.federation.guard import check_declared
from sammit.federation.memory import PrivateMemory
from sammit.federation.scoring import SiteScores
from sammit.geometry import View
from sammit.methods.base import Method, Outcome, Which, Work
from sammit.methods.state import first_not_finite, put, take, with_prefix
from sammit.vocabulary import Done, Judgement, Order, Reply, SiteData, State, Update


@dataclass
class Backbone:
    """The one model in memory that all sites of a process take turns in.

    Attributes:
        model: frozen base and live tensors.
        live: names that can get a gradient.
        start: copies of the live tensors as they were at first, common to all sites.
    """

    model: nn.Module
    live: tuple[str, ...]
    start: State

    @classmethod
    def of(cls, model: nn.Module, live: list[str]) -> Backbone:
        """A backbone around a freshly built model."""
        return cls(model, tuple(live), take(model, live))


class Worker:
    """Carries out the orders that one site is sent."""

    def __init__(
        self,
        site: SiteData,
        view: View,
        method: Method,
        backbone: Backbone,
        memory: PrivateMemory,
        experiment: Experiment,
    ) -> None:
        self.site, self.view, self.method, self.backbone = site, view, method, backbone
        self.memory, self.experiment = memory, experiment

    def handle(self, order: Order) -> Reply:
        """The reply to an order; private state changes as `memory` describes."""
        self.memory.settle(order)
        if order.kind == "train":
            return self._train(order)
        if order.kind == "evaluate":
            return self._evaluate(order)
        if order.kind == "keep":
            self.memory.keep(order.round)
        else:
            self._finish(order)
        return Done(self.site.name, order.round)

    def _train(self, order: Order) -> Update:
        work = self._work(order, self.memory.committed()[0])
        outcome = self.method.train(work)
        shared, personal = self.method.split(work)
        check_declared(outcome.extras, self.method.extras_up, "an update")
        self.memory.stage(self._private(outcome, personal), order.round, order.fingerprint)
        samples = self.site.samples("train")
        return Update(self.site.name, order.round, shared, outcome.extras, samples, outcome.metrics)

    def _finish(self, order: Order) -> None:
        """The state that the run leaves: the selected one, after the method's last local stage."""
        kept, round_index = self.memory.kept()
        private = kept if round_index == order.round else self.memory.committed()[0]
        work = self._work(order, private)
        outcome = self.method.finish(work)
        if outcome is not None:
            private = self._private(outcome, self.method.split(work)[1])
        self.memory.finalise(private, order.round)

    def _work(self, order: Order, private: State) -> Work:
        """The model in this site's state, and what the method needs around it."""
        self._load(order.tensors, private)
        self.backbone.model.train()
        e = self.experiment
        live = tuple(name for name in self.backbone.live if self.method.trains(name))
        return Work(order, self.backbone.model, live, self.site, private, e.training, e.seed)

    def _load(self, shared: State, private: State) -> None:
        put(self.backbone.model, {**self.backbone.start, **shared, **self.method.personal(private)})

    def _private(self, outcome: Outcome, personal: State) -> State:
        check_declared(outcome.private, self.method.site_state, "a site's state")
        private = {**outcome.private, **with_prefix("personal", personal)}
        if first_not_finite(private):  # its name is not told: the reason goes to the server
            raise UserError("what stays at the site became NaN or infinite; a lower training.lr may help")
        return private

    def _evaluate(self, order: Order) -> Judgement:
        """Score this site's cases; rows, pictures and router use of the test part stay in the site's folder."""
        test = order.part == "test"
        private = self.memory.final() if test else self.memory.committed()[0]
        scores = SiteScores(self.site, self.view, self.experiment.training.device)
        for which in self._judged():
            with self.as_model(which, order.tensors, private):
                scores.add(which, self.backbone.model, order.part)
        if test:
            reported = self._judged()[-1] if self.method.reported not in self._judged() else self.method.reported
            for which in self._judged():
                with self.as_model(which, order.tensors, private):
                    scores.add_pictures(which, self.backbone.model, reported)
            scores.write(self.memory.folder)
        return Judgement(self.site.name, order.round, order.part, scores.dice())

    def _judged(self) -> tuple[Which, ...]:
        """The models this site can judge: one that takes no part has none of its own."""
        if self.site.name in self.experiment.evaluation.unseen:
            return tuple(which for which in self.method.judged if which == "global")
        return self.method.judged

    @contextmanager
    def as_model(self, which: Which, shared: State, private: State) -> Iterator[None]:
        """The backbone's model as the global or this site's personal one, for as long as the context lasts."""
        self._load(shared, private if which == "personal" else {})
        self.method.use(self.backbone.model, which)
        try:
            yield
        finally:
            self.method.use(self.backbone.model, self.method.judged[-1])
