"""FedDA, in the style of: each site's encoder learns features that pass for another encoder's.

At site k with encoder B_k, decoder H_k and discriminator D_k, on its own images x alone:

    D_k   minimises   BCE( D_k(B_k(x)), 0 ) / 2 + BCE( D_k(B_o(x)), 1 ) / 2
    B_k   minimises   L_seg + w(t) BCE( D_k(B_k(x)), 1 ),     H_k minimises L_seg
    w(t)  goes from `first_weight` to `last_weight`, linear over the rounds

The other encoder B_o is frozen. `mode = "cyclic"`: the next site's, as it sent it in the last round it answered; sites
are in a ring, in the order of their names, and the first round is plain training. `mode = "joint"`: the global model's,
as received. The server averages by n_k. D_k, its optimiser and all features stay at site k: neither features nor
images travel. But in the cyclic mode the server keeps each site's encoder by itself and passes it on to one other
site, which an average never tells; a site can refuse it (`site.toml`).

Zhou et al., 2509.23907. Known are the abstract and summaries: a discriminator at each client, the client's own
features as source, another client's or the global model's as target. There, features of others are the target; here
the other encoder sees the site's own images, so that nothing of an image travels. Architecture, weights, rates and
how the other features are come by are choices made here; no number can be compared with theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call

from sammit.config import Experiment
from sammit.errors import UserError
from sammit.learning.loop import Trainer, fit
from sammit.methods import base
from sammit.methods.base import Outcome, Server, Work
from sammit.methods.discriminator import being_taken_for, new_discriminator, telling_apart
from sammit.methods.features import ENCODER, first_module, first_of, watched
from sammit.methods.state import put, take, with_prefix, without_prefix
from sammit.vocabulary import AnyState, Batch, Declared, State, Update

PAPER = "Zhou et al. 2025 (FedDA, 2509.23907), in the style of"
TRAVELS = "every trained tensor; in the cyclic mode each site's encoder goes on to one other site as it is"
STAYS = "discriminator and features"


@dataclass(frozen=True)
class Options(base.Options):
    """`[method]` of fedda."""

    mode: Literal["cyclic", "joint"] = "cyclic"  # the target: features of the next site's encoder, or the global one
    first_weight: float = 0.001  # w(t) in the first round
    last_weight: float = 0.01  # and in the last
    discriminator_lr: float = 1e-4  # constant

    def check(self) -> None:
        """Raise UserError where a value cannot be right."""
        if not self.first_weight >= 0 or not self.last_weight >= 0 or not self.discriminator_lr > 0:
            raise UserError(
                "method: first_weight and last_weight must not be below 0, discriminator_lr must be above 0"
            )


class Method(base.Method):
    """Both halves of FedDA."""

    reports: ClassVar[Mapping[str, str]] = {
        **base.Method.reports,
        "discriminator_loss": "mean cross-entropy of the discriminator; at log 2 it cannot tell the encoders apart",
    }
    server_state: ClassVar[tuple[Declared, ...]] = (
        Declared("place.", (), "int64", "cyclic: where in the ring a site is"),
        Declared("encoder.", None, "float32", "cyclic: the encoder that the site of a place last sent"),
    )
    site_state: ClassVar[tuple[Declared, ...]] = (
        *base.Method.site_state,
        Declared("discriminator.", None, "float32", "this site's discriminator"),
        Declared("moments.", None, "float32", "its optimiser"),
    )
    options: Options

    def __init__(self, options: Options | None = None) -> None:
        super().__init__(options or Options())
        self.options.check()

    @property
    def extras_down(self) -> tuple[Declared, ...]:  # type: ignore[override]
        """The joint mode sends nothing beside the global model."""
        if self.options.mode == "joint":
            return ()
        return (Declared("neighbour.", None, "float32", "another site's encoder as it last sent it, not averaged"),)

    # At the server

    def plan(self, experiment: Experiment, surveys: Mapping[str, State]) -> tuple[Experiment, State]:
        """The ring, in the order of the sites' names."""
        return experiment, {f"place.{site}": torch.tensor(place) for place, site in enumerate(sorted(surveys))}

    def orders(self, server: Server, site: str) -> tuple[AnyState, State]:
        """The global model and, in the cyclic mode, the encoder of the next site that ever answered."""
        if self.options.mode == "cyclic":
            own, count = int(server.memory[f"place.{site}"]), len(without_prefix("place", server.memory))
            for place in ((own + step) % count for step in range(1, count)):
                encoder = without_prefix(f"encoder.{place}", server.memory)
                if encoder:
                    return server.shared, with_prefix("neighbour", encoder)
        return server.shared, {}

    def aggregate(self, server: Server, updates: Iterable[Update]) -> Server:
        """The mean; in the cyclic mode each encoder is kept for the site before."""
        memory = dict(server.memory)
        done = super().aggregate(server, self._noted(updates, memory))
        return Server(done.shared, memory, done.metrics)

    def _noted(self, updates: Iterable[Update], memory: State) -> Iterator[Update]:
        """The updates as they arrive; their encoders go into `memory`."""
        for update in updates:
            if self.options.mode == "cyclic":
                place = int(memory[f"place.{update.site}"])
                memory.update(with_prefix(f"encoder.{place}", encoder_of(update.tensors)))
            yield update

    # At the site

    def train(self, work: Work) -> Outcome:
        """A round in which encoder and discriminator step in turn, or a plain one where there is no other encoder."""
        encoder = first_module(work.model, (ENCODER,))
        if encoder is None or not any(name.startswith(f"{ENCODER}.") for name in work.live):
            raise UserError("model: fedda needs an encoder that trains; use Segment Anything with an adapter")
        cyclic = self.options.mode == "cyclic"
        sent = without_prefix("neighbour", work.order.extras) if cyclic else work.order.tensors
        other = without_prefix(ENCODER, sent)
        trainer = work.trainer(work.live, work.steps, work.kept_moments())
        contest = Contest(work, self.options.discriminator_lr)
        objective = self._against(work, encoder, other, contest) if other else self.objective(work)
        loss = fit(trainer, work.batches(work.steps, "train"), objective)
        kept = trainer.optimiser_state() if work.training.optimiser_state == "keep" else {}
        metrics = {"loss": loss, "steps": trainer.done, **contest.metrics()}
        return Outcome({**with_prefix("optimiser", kept), **contest.state()}, {}, metrics)

    def _against(self, work: Work, encoder: nn.Module, other: State, contest: Contest) -> Callable[[Batch], Tensor]:
        """The encoder's loss; before it is returned, the discriminator has taken its step on the same features."""
        progress = work.order.round / max(1, work.training.rounds - 1)
        weight = self.options.first_weight + progress * (self.options.last_weight - self.options.first_weight)
        other = {name: tensor.to(work.training.device) for name, tensor in other.items()}

        def objective(batch: Batch) -> Tensor:
            with watched(encoder) as seen:
                loss = self.segmentation(work, work.model(*batch.inputs), batch)
            pixels, own = seen[0]
            with torch.no_grad():
                target = first_of(functional_call(encoder, other, (pixels,)))
            return loss + weight * contest.step(batch, own, target)

        return objective


@dataclass
class Contest:
    """A site's discriminator in one round; it is made, or taken from the private state, with the first features.

    Attributes:
        work: the round.
        rate: of the discriminator's Adam.
        trainer: None before the first step.
    """

    work: Work
    rate: float
    trainer: Trainer | None = field(default=None, init=False)

    def step(self, batch: Batch, own: Tensor, other: Tensor) -> Tensor:
        """One step of the discriminator on (B, X, h, w) features each; then the loss of the encoder that gave `own`."""
        if self.trainer is None:
            self.trainer = self._begin(own.shape[1])
        net = self.trainer.model
        self.trainer.step(batch, lambda _: telling_apart(net, own.detach(), other))
        return being_taken_for(net, own)

    def metrics(self) -> dict[str, float]:
        """The number that is reported; none of a round without a contest."""
        return {} if self.trainer is None else {"discriminator_loss": self.trainer.mean_loss}

    def state(self) -> State:
        """What stays at the site: as it was before, where there was no contest."""
        if self.trainer is None:
            return {name: t for name, t in self.work.private.items() if name.startswith(("discriminator.", "moments."))}
        weights = take(self.trainer.model, self.trainer.parameters)
        return with_prefix("discriminator", weights) | with_prefix("moments", self.trainer.optimiser_state())

    def _begin(self, channels: int) -> Trainer:
        work = self.work
        net = new_discriminator(channels, work.seed, work.site.name)
        put(net, without_prefix("discriminator", work.private))
        net.to(work.training.device)
        training = replace(
            work.training, optimiser="adam", lr=self.rate, schedule="constant", warmup=0.0, weight_decay=0.0, clip=0.0
        )
        names = [name for name, _ in net.named_parameters()]
        return Trainer(net, names, training, work.order.round, work.steps, without_prefix("moments", work.private))


def encoder_of(state: Mapping[str, Tensor]) -> State:
    """The encoder's tensors of a state, by whole name."""
    return {name: state[name] for name in state if name.startswith(f"{ENCODER}.")}
