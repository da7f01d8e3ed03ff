"""A hospital's side of runs that a server elsewhere leads: it opens its own data, and answers what it is sent.

It knows nothing of an engine: bytes come in and bytes go out. What it keeps lies in the site's own folder, a folder a
run; what a run leaves there is a run folder of its own, with this site's cases, pictures and personal model, from
which `sammit predict` and `sammit report` work.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from sammit.config import Experiment
from sammit.data.site import Site
from sammit.data.sites import open_site
from sammit.errors import TellableError, UserError
from sammit.federation.audit import Audit
from sammit.federation.consent import check_agreed
from sammit.federation.guard import check_declared
from sammit.federation.leavings import leave, summed_up
from sammit.federation.memory import PrivateMemory
from sammit.federation.noise import SiteNoise, check_covered
from sammit.federation.posted import post, read
from sammit.federation.prefix import PrefixedSite, prefix_cache
from sammit.federation.premises import Premises
from sammit.federation.prepare import make_backbone, make_method, resolved
from sammit.federation.worker import Worker
from sammit.files import sha256_of_file
from sammit.lock import locked
from sammit.methods.base import Method
from sammit.policy import SitePolicy
from sammit.recipe import experiment_from
from sammit.runs import run_name
from sammit.version import VERSION
from sammit.vocabulary import Failure, Invitation, Judgement, Message, Order, Ready, Reply, Survey

log = logging.getLogger(__name__)


class Hospital:
    """One site. What it raises becomes a Failure whose reason names nothing of the site's own.

    Every message and every reply is a line of `audit.jsonl` in the site's home.
    """

    def __init__(self, name: str, premises: Premises, clock: Callable[[], datetime] | None = datetime.now) -> None:
        """
        Args:
            name: the site's, as the federation knows it; draws are keyed by it.
            premises: the site's own settings.
            clock: the site's own, for the hours in which it trains; None: it trains at any, as for a preview.
        """
        self.name, self.premises, self._clock = name, premises, clock
        self.audit = Audit(Path(premises.home) / "audit.jsonl")
        self._worker: Worker | None = None
        self._run = ""
        self._largest = 0
        self._held = ExitStack()

    def answer(self, order: Path, reply: Path) -> None:
        """Write the reply to a message of the server.

        Args:
            order: the file that came.
            reply: the file that is to leave.
        """
        try:
            message = read(order)
            about = {"run": self._run or getattr(message, "run", ""), "round": message.round, "kind": _kind(message)}
        except (ValueError, AttributeError):
            self.audit.note("received", kind="no message")
            post(Failure(self.name, -1, "was sent what is no message"), reply)
            return
        self.audit.note("received", **about, bytes=order.stat().st_size)
        started = perf_counter()
        said = self._answered(message)
        size = post(said, reply)
        if self._largest and size > self._largest:
            said = Failure(
                self.name, message.round, f"has an update of {size:,} bytes, and sends {self._largest:,} at most"
            )
            size = post(said, reply)
        seconds = round(perf_counter() - started, 3)
        facts = {"reply": type(said).__name__, "bytes": size, "sha256": sha256_of_file(reply), "seconds": seconds}
        if isinstance(said, Failure):
            facts["reason"] = said.reason
        self.audit.note("answers", **about, **facts, **self._spent(_kind(message)))

    def close(self) -> None:
        """Let the folder of the run go: another process may take it."""
        self._held.close()

    def _answered(self, message: Message) -> Reply:
        """The reply; what goes wrong becomes one."""
        try:
            if message.site != self.name:
                raise TellableError(f"was sent a message for site '{message.site}'")
            if isinstance(message, Invitation):
                return self._ready(message) if message.planned else self._survey(message)
            if isinstance(message, Order):
                return self._carry_out(message)
            raise TellableError(f"was sent {type(message).__name__}, which is no order")
        except TellableError as error:
            log.error("%s", error)
            return Failure(self.name, message.round, str(error))
        except Exception as error:
            log.exception("%s", error)
            reason = f"could not answer ({_kind(message)}: {type(error).__name__}); the site's own log says why"
            return Failure(self.name, message.round, reason)

    def _survey(self, invitation: Invitation) -> Survey:
        """What the site tells of its data before the model is built, if it agrees to the run at all."""
        experiment, method = self._own(invitation.experiment)
        site = self._open(experiment, method, invitation.trains)
        tensors = method.survey(site) if invitation.trains else {}
        check_declared(tensors, method.surveyed, "a survey")
        samples = site.samples("train") if invitation.trains else 0
        least = max(policy.min_samples for policy in self._policies(site))
        if invitation.trains and samples < least:
            raise TellableError("has fewer images to train on than it takes part with")
        return Survey(self.name, invitation.round, site.structures, samples, tensors)

    def _ready(self, invitation: Invitation) -> Ready:
        """Build the model of the planned experiment; from here on orders can be carried out."""
        experiment, method = self._own(invitation.experiment)
        torch.set_num_threads(experiment.training.threads)
        site = self._open(experiment, method, invitation.trains)
        backbone = make_backbone(experiment, method, len(site.structures))
        prefix = prefix_cache(experiment, backbone.model, backbone.start, [site] if invitation.trains else [])
        self._take(invitation.run)
        self._site = site
        self._largest = min((p.largest_update for p in self._policies(site) if p.largest_update), default=0)
        leave(self._folder, experiment, site, backbone.base)
        self._worker = Worker(
            PrefixedSite(site, prefix) if prefix else site,
            site.view,
            method,
            backbone,
            PrivateMemory(self._folder / "checkpoint"),
            experiment,
            policy=site.policy,
            noise=SiteNoise(self.premises.noise, self._folder / "noise.json") if self.premises.noise.on else None,
        )
        return Ready(self.name, invitation.round, backbone.base, VERSION)

    def _take(self, run: str) -> None:
        """Make the folder of a run this process's own: an earlier job of it may not have ended yet."""
        if run != self._run:
            self._run = run_name(run)
            self._held.close()
            try:
                self._held.enter_context(locked(self._folder, "run", patience=60))
            except UserError:
                self._run = ""
                raise TellableError("is still at work on this run for an earlier job; submit it again later") from None

    def _carry_out(self, order: Order) -> Reply:
        if self._worker is None:
            raise TellableError("was sent an order before it was invited")
        if order.kind == "train":
            self._check_hours()
        reply = self._worker.handle(order)
        if not isinstance(reply, Judgement):
            return reply
        entry = summed_up(self._folder, self._worker, order) if order.kind == "score" else {}
        return self._told(replace(reply, entry=entry))

    def _told(self, judgement: Judgement) -> Judgement:
        """Scores as they leave: none beside noise, nor of so few patients that they might tell of one."""
        patients = {case.patient for case in self._site.cases(judgement.part)}
        few = len(patients) < max(policy.min_patients for policy in self._policies(self._site))
        if few or self.premises.noise.on:
            return replace(judgement, dice={}, entry={})
        return judgement

    def _check_hours(self) -> None:
        """Raise TellableError where it is no hour for the site to train; all else is answered at any time."""
        now = self._clock().time() if self._clock else None
        for policy in self._policies(self._site):
            if now and not policy.open_at(now):
                raise TellableError(f"takes part between {policy.hours.replace('-', ' and ')} only")

    def _spent(self, kind: str) -> dict[str, Any]:
        """What the audit log and the site's own say after a training order, where updates are noised."""
        noise = self._worker.noise if self._worker and kind == "train" else None
        if noise is None:
            return {}
        try:
            spent = noise.spent()
        except UserError as error:  # nothing left, as nothing may without the count
            log.error("%s", error)
            return {"epsilon": None}
        log.info("noised updates of this run: %(noised)d, epsilon %(epsilon)g at delta %(delta)g", spent)
        return spent

    def _policies(self, site: Site) -> tuple[SitePolicy, ...]:
        """Both of the site's: each can only take away."""
        return self.premises.policy, site.policy

    @property
    def _folder(self) -> Path:
        return Path(self.premises.home) / "runs" / self._run

    @property
    def _cache(self) -> str:
        return self.premises.cache or str(Path(self.premises.home) / "cache")

    def _own(self, tables: Mapping[str, Any]) -> tuple[Experiment, Method]:
        """The experiment with this site's own paths and device, and its method."""
        experiment = experiment_from(dict(tables))
        data = replace(experiment.data, root=self.premises.data, cache=self._cache, sites=())
        threads = self.premises.threads or experiment.training.threads
        training = replace(experiment.training, device=self.premises.device, threads=threads)
        experiment = resolved(replace(experiment, data=data, training=training))
        return experiment, make_method(experiment)

    def _open(self, experiment: Experiment, method: Method, trains: bool) -> Site:
        site = open_site(self.name, experiment.data)
        for policy in self._policies(site):
            check_agreed(self.name, policy, experiment.method.name, method)
        if trains and self.premises.noise.on:
            check_covered(experiment.method.name, method)
        seed = experiment.data.split_seed
        return site.split(experiment.seed if seed < 0 else seed, not trains, method.unlabelled)


def _kind(message: Message) -> str:
    return message.kind if isinstance(message, Order) else "invitation"
