"""The round loop: the same for sites in this process and for sites across the world.

Replies are taken as they arrive and used in site order, so that sums do not depend on the order of arrival. An update
that comes before its turn waits on disk: memory holds one or two updates, however many sites there are. After each
round the server's state is written once, whole; a run that is killed goes on from there and ends as it would have.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite
from pathlib import Path
from time import perf_counter
from typing import Any

from sammit.config import Experiment
from sammit.errors import UserError
from sammit.federation.exchange import Transport, in_site_order
from sammit.federation.guard import check_declared, judgement_refusal, refusal
from sammit.federation.small import SmallUpdates, received
from sammit.federation.spill import Spill
from sammit.federation.stored import LARGE, Stored
from sammit.methods.base import Method, Server
from sammit.methods.state import fingerprint
from sammit.vocabulary import AnyState, Failure, Judgement, Order, OrderKind, Part, State, Update


@dataclass
class Progress:
    """Everything the server needs to go on after a kill.

    Attributes:
        server: shared tensors and the method's memory, after `round` rounds.
        round: rounds that are done.
        judged: whether the last of them has been validated and logged.
        accepted, origins: for each site, the last round whose update was taken and the fingerprint of its order.
        best: round and mean validation Dice of the best round so far; round -1 before the first.
        best_shared: the shared tensors of that round.
        log: a row a round, as in `rounds.jsonl`.
        line: the row of a round that is not yet judged.
    """

    server: Server
    round: int = 0
    judged: bool = True
    accepted: dict[str, int] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)
    best: tuple[int, float] = (-1, -1.0)
    best_shared: AnyState = field(default_factory=dict)
    log: list[dict[str, Any]] = field(default_factory=list)
    line: dict[str, Any] = field(default_factory=dict)


@dataclass
class Rounds:
    """The server's side of one run.

    Attributes:
        method, experiment: what is run.
        transport: how sites are reached.
        train_sites: who trains; `judge_sites`: who is scored, a superset but for pooled training.
        template: name -> tensor of every shared name, which updates must match.
        save: writes a Progress durably, whole or not at all; what it wrote may take the place of what was in memory.
        tell: is called with each finished row of the log.
        waiting: a folder for updates that must wait, which is there only while they do.
        announced: site -> how many samples it said that it trains on, where sites were asked.
    """

    method: Method
    experiment: Experiment
    transport: Transport
    train_sites: tuple[str, ...]
    judge_sites: tuple[str, ...]
    template: State
    save: Callable[[Progress], None]
    tell: Callable[[dict[str, Any]], None]
    waiting: Path
    announced: Mapping[str, int] = field(default_factory=dict)

    def run(self, progress: Progress, until: int | None = None) -> Progress:
        """All rounds that are left, or those until there are `until`."""
        end = self.experiment.training.rounds if until is None else until
        while True:
            if not progress.judged:
                progress = self._judge_round(progress)
                self.save(progress)
                self.tell(progress.log[-1])
            if progress.round == end:
                return progress
            progress = self._train_round(progress)
            self.save(progress)

    def _train_round(self, progress: Progress) -> Progress:
        """Orders out, updates in, one aggregation."""
        started = perf_counter()
        index = progress.round
        line: dict[str, Any] = {
            "round": index,
            "loss": {},
            "validation": None,
            "up_bytes": {},
            "down_bytes": {},
            "steps": {},
            "numbers": {},
            "failed": {},
        }
        asked: dict[str, Order] = {}
        with Spill(self.waiting) as spill:
            updates = self._accepted(self._train_orders(progress, asked), asked, line, spill)
            server = self.method.aggregate(progress.server, updates)
            for _ in updates:  # a method that needs no update still leaves every reply looked at
                pass
        check_declared(server.memory, self.method.server_state, "the server's memory")
        taken = list(line["loss"])
        self._enough(index, len(taken), line["failed"], self.method.aggregator.least)
        line["server"] = {name: _finite(value) for name, value in server.metrics.items()}
        line["seconds"] = perf_counter() - started
        origins = {site: asked[site].fingerprint for site in taken}
        return replace(
            progress,
            server=server,
            round=index + 1,
            judged=False,
            line=line,
            accepted={**progress.accepted, **dict.fromkeys(taken, index)},
            origins={**progress.origins, **origins},
        )

    def _enough(self, index: int, answered: int, failed: Mapping[str, str], least: int = 1) -> None:
        """Raise UserError where fewer sites answered in a round than the recipe, or `least` for the rule, asks for."""
        asked_for = self.experiment.training.min_sites
        needed = min(max(asked_for, least), len(self.train_sites))  # pooled training has one, a preview too
        if answered < needed:
            reasons = "; ".join(f"{site}: {reason}" for site, reason in failed.items())
            raise UserError(
                f"round {index}: {answered} of {len(self.train_sites)} sites answered, "
                f"{'training.min_sites' if asked_for >= least else 'method.aggregator'} asks for {needed} ({reasons}); "
                "mend the sites, then --resume"
            )

    def _accepted(
        self, orders: Iterator[Order], asked: Mapping[str, Order], line: dict[str, Any], spill: Spill
    ) -> Iterator[Update]:
        """The round's sound updates in site order; the others become failures of the log's line.

        Args:
            orders: to be carried to the sites.
            asked: those that have been, by site, without their extras.
            line: of the log; it is filled in.
            spill: where updates wait that come early, or that the method needs all at once.
        """
        small = SmallUpdates.of(self.experiment)
        for delivery in in_site_order(self.transport.exchange(orders), self.train_sites, line["round"], spill.put):
            reply = delivery.reply
            line["down_bytes"][reply.site], line["up_bytes"][reply.site] = delivery.down_bytes, delivery.up_bytes
            template = self.method.aggregator.cut(self.template, reply.site)
            if not isinstance(reply, Failure):
                early = Failure(reply.site, line["round"], "answered before it was asked")
                reply = received(reply, asked[reply.site], template, small) if reply.site in asked else early
            known = (self.method.extras_up, self.method.reports, self.announced.get(reply.site))
            reason = refusal(reply, line["round"], template, *known)
            if reason or not isinstance(reply, Update):
                line["failed"][reply.site] = reason
                continue
            line["loss"][reply.site] = _finite(reply.metrics.get("loss"))
            line["steps"][reply.site] = reply.metrics.get("steps")
            others = {name: _finite(n) for name, n in reply.metrics.items() if name not in ("loss", "steps")}
            line["numbers"][reply.site] = others
            if self.method.needs_all or _large(reply):
                yield spill.put(reply, lasting=True)
            else:
                yield reply
                spill.drop(delivery.reply)

    def _judge_round(self, progress: Progress) -> Progress:
        """Validate the new state where it is due, remember the best, close the log's line."""
        index = progress.round - 1
        line = dict(progress.line)
        best, best_shared = progress.best, progress.best_shared
        every, last = self.experiment.evaluation.every, progress.round == self.experiment.training.rounds
        if every and (progress.round % every == 0 or last):
            judged, failed = self._judged(progress, progress.server.shared, index, "evaluate", "val", self.train_sites)
            line["validation"] = {site: dict(judgement.dice) for site, judgement in judged.items()}
            line["failed"] = {**line["failed"], **failed}
            self._enough(index, len(judged), line["failed"])
            reported = self.method.judging.reported
            dice = [j.dice[reported] for j in judged.values() if reported in j.dice]
            mean = sum(dice) / len(dice) if dice else -1.0
            # a mean over fewer sites cannot be set against one over all of them
            if mean > best[1] and not failed and self.experiment.evaluation.selection == "best":
                best, best_shared = (index, mean), progress.server.shared
                self._tell_sites(progress, "keep", index, {})
        return replace(progress, judged=True, best=best, best_shared=best_shared, log=[*progress.log, line], line={})

    def selected(self, progress: Progress) -> tuple[int, AnyState]:
        """The reported round and its shared tensors."""
        if self.experiment.evaluation.selection == "best" and progress.best[0] >= 0:
            return progress.best[0], progress.best_shared
        return progress.round - 1, progress.server.shared

    def finish(self, progress: Progress) -> dict[str, Judgement]:
        """The last local stage at every site, then the cases of all that are to be scored; each site's means."""
        index, shared = self.selected(progress)
        self._tell_sites(progress, "finish", index, shared)
        return self.evaluate(progress, shared, index, "score", self.experiment.evaluation.scored, self.judge_sites)

    def evaluate(
        self, progress: Progress, shared: AnyState, index: int, kind: OrderKind, part: Part, sites: Sequence[str]
    ) -> dict[str, Judgement]:
        """Each site's own scores of a state; a site that fails is a UserError, since no table can be made without."""
        judged, failed = self._judged(progress, shared, index, kind, part, sites)
        for site, reason in failed.items():
            raise UserError(f"site '{site}' could not be scored: {reason}")
        return judged

    def _judged(
        self, progress: Progress, shared: AnyState, index: int, kind: OrderKind, part: Part, sites: Sequence[str]
    ) -> tuple[dict[str, Judgement], dict[str, str]]:
        """Each site's own scores of a state, and why others gave none."""
        mark = fingerprint(shared)
        orders = [replace(self._order(progress, site, kind, index, shared, mark), part=part) for site in sites]
        found, failed = {}, {}
        for delivery in in_site_order(self.transport.exchange(orders), sites, index):
            reply = delivery.reply
            reason = judgement_refusal(reply, index, part, self.method.judging)
            if reason or not isinstance(reply, Judgement):
                failed[reply.site] = reason
            else:
                found[reply.site] = reply
        return found, failed

    def _tell_sites(self, progress: Progress, kind: Any, index: int, shared: AnyState) -> None:
        mark = fingerprint(shared)
        orders = [self._order(progress, site, kind, index, shared, mark) for site in self.train_sites]
        for delivery in in_site_order(self.transport.exchange(orders), self.train_sites, index):
            if isinstance(delivery.reply, Failure):
                raise UserError(f"site '{delivery.reply.site}' failed to {kind}: {delivery.reply.reason}")

    def _train_orders(self, progress: Progress, asked: dict[str, Order]) -> Iterator[Order]:
        """One order after another; what is made for one site is not held for all. Of each, `asked` keeps the rest."""
        marks = _Marks(progress.server.shared)
        for site in self.train_sites:
            order = self._train_order(progress, site, marks)
            asked[site] = replace(order, extras={})
            yield order

    def _train_order(self, progress: Progress, site: str, marks: _Marks) -> Order:
        tensors, extras = self.method.orders(progress.server, site)
        check_declared(extras, self.method.extras_down, "an order")
        tensors = self.method.aggregator.cut(tensors, site)
        order = self._order(progress, site, "train", progress.round, tensors, marks.of(tensors))
        return replace(order, extras=extras)

    def _order(self, progress: Progress, site: str, kind: Any, index: int, tensors: AnyState, mark: str) -> Order:
        accepted, origin = progress.accepted.get(site, -1), progress.origins.get(site, "")
        return Order(kind, site, index, tensors, {}, mark, accepted, origin)


class _Marks:
    """Fingerprints of order tensors; the common case, one state for all sites, is hashed once."""

    def __init__(self, shared: AnyState) -> None:
        self._shared, self._mark = shared, fingerprint(shared)

    def of(self, tensors: AnyState) -> str:
        return self._mark if tensors is self._shared else fingerprint(tensors)


def _large(update: Update) -> bool:
    """Whether an update lies on disk and is so large that no sum of all of it, in float64, is kept in memory."""
    return isinstance(update.tensors, Stored) and update.tensors.nbytes > LARGE


def _finite(value: float | None) -> float | None:
    """The number, or None where it is NaN or infinite: JSON knows neither."""
    return value if value is not None and isfinite(value) else None
