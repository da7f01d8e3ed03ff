"""A site's side: from an order to a reply. Private tensors and cases never get into a reply."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from torch import nn

from sammit.config import Experiment
from sammit.errors import TellableError
from sammit.federation.consent import check_agreed
from sammit.federation.cross import at_home, score_visitors
from sammit.federation.guard import check_declared, refusal
from sammit.federation.memory import PrivateMemory
from sammit.federation.noise import SiteNoise
from sammit.federation.pictures import CasePictures
from sammit.federation.scoring import SiteScores, Use
from sammit.federation.small import UNSENT, SmallUpdates, base_of, left_unsent
from sammit.geometry import View
from sammit.learning.evaluate import Scorer
from sammit.methods.aggregators.factors import is_factor
from sammit.methods.base import Judged, Method, Outcome, Which, Work
from sammit.methods.state import (
    first_not_finite,
    mean_of,
    put,
    select,
    take,
    with_prefix,
    without_moments,
    without_prefix,
)
from sammit.policy import SitePolicy
from sammit.reporting.cross import write_cross
from sammit.vocabulary import AnyState, Done, Judgement, Order, Reply, SiteData, SmallUpdate, State, Update


@dataclass
class Backbone:
    """The one model in memory that all sites of a process take turns in.

    Attributes:
        model: frozen base and live tensors.
        live: names that can get a gradient.
        start: copies of all tensors that change, as they were at first, common to all sites.
        base: the hash of the base weights in fp32, whatever precision they are kept in.
    """

    model: nn.Module
    live: tuple[str, ...]
    start: State
    base: str = ""

    @classmethod
    def of(cls, model: nn.Module, live: Sequence[str], held: Sequence[str] = (), base: str = "") -> Backbone:
        """A backbone around a freshly built model; `held` names are not trained, but the server may change them."""
        return cls(model, tuple(live), take(model, [*live, *held]), base)


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
        lent: Mapping[str, Callable[[], State]] | None = None,
        policy: SitePolicy | None = None,
        noise: SiteNoise | None = None,
    ) -> None:
        """
        Args:
            site, view: the site's data, and how a model looks at it.
            method, backbone, experiment: what is run; the backbone may be shared by all sites of a process.
            memory: the site's own files.
            lent: how to read the final private states of the sites that train, by name, where one process simulates
                all of them; across hospitals nobody lends, and a site that takes no part is judged with the global
                model alone.
            policy: what the site agrees to; to all by default.
            noise: what is done to its updates before they leave; nothing by default.
        """
        self.site, self.view, self.method, self.backbone = site, view, method, backbone
        self.memory, self.experiment, self.lent = memory, experiment, lent
        self.policy, self.noise = policy or SitePolicy(), noise
        self.small = SmallUpdates.of(experiment)

    def handle(self, order: Order) -> Reply:
        """The reply to an order; private state changes as `memory` describes."""
        self.memory.settle(order)
        if order.kind == "train":
            return self._train(order)
        if order.kind in ("evaluate", "score"):
            return self._evaluate(order)
        if order.kind == "keep":
            self.memory.keep(order.round)
        else:
            self._finish(order)
        return Done(self.site.name, order.round)

    def _train(self, order: Order) -> Update | SmallUpdate:
        check_agreed(self.site.name, self.policy, self.experiment.method.name, self.method)
        committed, last = self.memory.committed()
        if self.noise and self.method.shared_names(self.backbone.live):
            self.noise.admit(last)
        work = self._work(order, _of_method(committed))
        outcome = self.method.train(work)
        shared, personal = self.method.split(work)
        private = self._private(outcome, personal)
        samples = self.site.samples("train")
        sent = self.method.aggregator.cut(shared, self.site.name)
        update = Update(self.site.name, order.round, sent, outcome.extras, samples, outcome.metrics)
        self._check(update)
        if self.noise:
            update = self.noise.applied(update, base_of(order, self._template()))
        reply, unsent = self._as_sent(update, order, without_prefix(UNSENT, committed))
        self.memory.stage(private | with_prefix(UNSENT, unsent), order.round, order.fingerprint)
        return reply

    def _as_sent(self, update: Update, order: Order, unsent: State) -> tuple[Update | SmallUpdate, State]:
        """The update as it travels, and what is to be sent later; what the server will make of it is checked too."""
        if self.small is None or not update.tensors:
            return update, {}
        base = base_of(order, self._template())
        small = self.small.packed(update, base, unsent)
        arrived = self.small.in_full(small, base)
        self._check(arrived)
        return small, left_unsent(update, arrived, unsent, filter(self._catches_up, update.tensors))

    def _catches_up(self, name: str) -> bool:
        """Whether what an update left out of a tensor is to be sent later: it is not in the next one by itself."""
        changed = self.method.aggregator.refactors and is_factor(name)
        return self.method.starts_as_sent(name) and not changed

    def _template(self) -> AnyState:
        """A tensor of the right shape and type for every name that this site shares."""
        shared = select(self.backbone.start, set(self.method.shared_names(self.backbone.live)).__contains__)
        return self.method.aggregator.cut(shared, self.site.name)

    def _check(self, update: Update) -> None:
        """Raise TellableError where the server would refuse the update: what it must not have does not leave at all."""
        reason = refusal(update, update.round, self._template(), self.method.extras_up, self.method.reports)
        if reason:
            raise TellableError(reason)

    def _finish(self, order: Order) -> None:
        """The state that the run leaves: the selected one, after the method's last local stage."""
        kept, round_index = self.memory.kept()
        private = _of_method(kept if round_index == order.round else self.memory.committed()[0])
        work = self._work(order, private)
        outcome = self.method.finish(work)
        if outcome is not None:
            private = self._private(outcome, self.method.split(work)[1])
        steps = outcome.metrics["steps"] if outcome else 0
        self.memory.finalise(private, order.round, int(steps))

    def join(self, order: Order, private: State) -> tuple[State, Mapping[str, float]]:
        """Train what this site keeps after a run in which it took no part; the order's tensors stay as they are.

        Args:
            order: a "finish" with the shared tensors of the run.
            private: what the site starts from; empty: from nothing of its own.

        Returns:
            What makes the shared model this site's own, by name, and numbers for the log.
        """
        work = self._work(order, private)
        outcome = self.method.join(work)
        private = self._private(outcome, self.method.split(work)[1])
        sent = dict(self.method.aggregator.fill(order.tensors, self.backbone.start))
        return self.personal(private, sent), outcome.metrics

    def _work(self, order: Order, private: State) -> Work:
        """The model in this site's state, and what the method needs around it."""
        sent = dict(self.method.aggregator.fill(order.tensors, self.backbone.start))
        order = replace(order, tensors=self.method.aggregator.without_held(sent))
        self._load(sent, self.personal(private, sent))
        self.backbone.model.train()
        e = self.experiment
        live = self.method.trained_names(self.backbone.live)
        return Work(order, self.backbone.model, live, self.site, private, e.training, e.seed)

    def _load(self, shared: AnyState, personal: State) -> None:
        put(self.backbone.model, {**self.backbone.start, **shared, **personal})

    def personal(self, private: State, shared: AnyState) -> State:
        """The tensors that make the shared model this site's own."""
        return self.method.personal(private, self.method.aggregator.without_held(shared))

    def _private(self, outcome: Outcome, personal: State) -> State:
        check_declared(outcome.private, self.method.site_state, "a site's state")
        private = {**outcome.private, **with_prefix("personal", personal)}
        if self.method.aggregator.refactors:
            private = without_moments(private, filter(is_factor, self.method.shared_names(self.backbone.live)))
        if first_not_finite(private):  # its name is not told: the reason goes to the server
            raise TellableError("what stays at the site became NaN or infinite; a lower training.lr may help")
        return private

    def _evaluate(self, order: Order) -> Judgement:
        """Score this site's cases; rows, pictures and router use of the final scores stay in the site's folder.

        Validation chooses by Dice alone: distances, pictures and visits are of test cases only.
        """
        final = order.kind == "score"
        tested = final and order.part == "test"
        private = self.memory.final() if final else self.memory.committed()[0]
        uses = {which: self._uses(which, order.tensors, private) for which in self._judged()}
        e = self.experiment
        pictures = CasePictures(self.site)
        scorer = Scorer(e.evaluation, self.view, e.training.device, distances=tested)
        scores = SiteScores(self.site, scorer, pictures.see if tested else None)
        try:
            for which, ways in uses.items():
                if which == "sources":
                    scores.add_mean(which, ways, order.part)
                else:
                    scores.add(which, ways[0](), order.part)
            if final:
                scores.write(self.memory.folder)
            if tested:
                by_case: dict[str, dict[str, float]] = {which: scores.by_case(which) for which in uses}
                reported: Judged = self.method.judging.reported
                pictures.write(self.memory.folder, by_case, reported if reported in uses else next(iter(uses)))
                self._visit(scores, order)
        finally:
            self.method.use(self.backbone.model, self.method.judging.models[-1])
        return Judgement(self.site.name, order.round, order.part, scores.dice())

    def _visit(self, scores: SiteScores, order: Order) -> None:
        """Every other site's own model on this site's cases, where that is asked for and they are lent."""
        e = self.experiment
        if not (e.evaluation.cross_site and self.lent and "personal" in self.method.judging.models):
            return
        others = {name: read for name, read in self.lent.items() if name != self.site.name}
        visitors = {name: partial(self._as_lent, read, order.tensors) for name, read in others.items()}
        scorer = Scorer(e.evaluation, self.view, e.training.device, distances=False)
        rows = at_home(scores) + score_visitors(self.site, scorer, visitors, order.part)
        write_cross(self.memory.folder / "cross.csv", rows)

    def _judged(self) -> tuple[Judged, ...]:
        """The models this site can judge: one that takes no part has none of its own.

        Raises:
            TellableError: there is none.
        """
        if self.site.name not in self.experiment.evaluation.unseen:
            return self.method.judging.models
        judged = tuple(which for which in self.method.judging.unseen if which == "global" or self.lent)
        if not judged:
            raise TellableError("takes no part, and the method has no model for it where nobody lends theirs")
        return judged

    def _uses(self, which: Judged, shared: AnyState, private: State) -> list[Use]:
        """How the one model in memory becomes what is judged: one way, or one for each source model."""
        if which == "global":
            return [partial(self.as_model, "global", shared, {})]
        if which == "personal":
            return [partial(self.as_model, "personal", shared, self.personal(private, shared))]
        lent = (self.lent or {}).values()
        if which == "experts":
            mean = mean_of(self.personal(read(), shared) for read in lent)
            return [partial(self.as_model, "personal", shared, mean)]
        return [partial(self._as_lent, read, shared) for read in lent]

    def _as_lent(self, read: Callable[[], State], shared: AnyState) -> nn.Module:
        """The backbone's model as another site's own; that site's state is in memory no longer than it is needed."""
        return self.as_model("personal", shared, self.personal(read(), shared))

    def as_model(self, which: Which, shared: AnyState, personal: State) -> nn.Module:
        """The backbone's model as the global or a personal one."""
        self._load(shared, personal)
        self.method.use(self.backbone.model, which)
        return self.backbone.model


def _of_method(private: State) -> State:
    """A site's private state without what its updates left out, of which no method knows."""
    return select(private, lambda name: not name.startswith(f"{UNSENT}."))
