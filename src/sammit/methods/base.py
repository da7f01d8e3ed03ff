"""What a method is: both halves of a federated algorithm, with federated averaging as the default of every hook.

A round in the order of its hooks, S at the server and H at a hospital:

    S orders    what each site is sent            H train     the site's round
    S aggregate from updates to the next state    H finish    a last local stage after the last round
                                                  H join      a new site's own part, after the run
    H personal, use, judging                      which models are evaluated, and how each is put together

Once, before the model is built, `survey` (H) sends declared statistics and `plan` (S) makes of them the effective
experiment and the server's first memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from sammit.config import Experiment, TrainingConfig
from sammit.errors import UserError
from sammit.learning.loop import Trainer, fit, steps_in_round
from sammit.learning.losses import segmentation_loss
from sammit.methods.aggregators.base import Aggregator
from sammit.methods.state import take, with_prefix, without_prefix
from sammit.vocabulary import AnyState, Batch, Declared, Order, SiteData, State, Update

Which = Literal["global", "personal"]
"""The two shapes of a model: as it travels, and as a site uses it."""

Judged = Literal["global", "personal", "sources", "experts"]
"""What is scored. At a site that takes no part: the global model, the mean score of the source sites' own models
("sources"), or the shared part with the mean of the source sites' personal tensors ("experts")."""

Train = Literal["adapters", "decoder", "all"]


@dataclass(frozen=True)
class Judging:
    """Which models of a run are judged.

    Attributes:
        models: at a site that trains; the last is the shape the model is left in.
        reported: the one of them that stands for the site.
        unseen: at a site that takes no part; the first is reported.
        unseen_rule: how such a site is judged, for a reader.
    """

    models: tuple[Which, ...]
    reported: Which
    unseen: tuple[Judged, ...]
    unseen_rule: str


@dataclass(frozen=True)
class Options:
    """`[method]`: federated averaging has no options of its own."""


@dataclass
class Server:
    """The server's state between rounds.

    Attributes:
        shared: the shared tensors, by name.
        memory: what the method declared in `server_state`.
        metrics: numbers about the last aggregation, for the round's log.
    """

    shared: AnyState
    memory: State = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass
class Work:
    """What a site has at hand to carry out an order.

    Attributes:
        order: what was asked; its tensors are already in the model.
        model: frozen base, shared tensors of the order, this site's personal tensors.
        live: names that can get a gradient, in the model's order.
        site: the site's data.
        private: the site's committed private state, as the method left it ("personal.NAME" and what it declared).
        training: the recipe's `[training]`.
        seed: the experiment's.
    """

    order: Order
    model: nn.Module
    live: tuple[str, ...]
    site: SiteData
    private: State
    training: TrainingConfig
    seed: int

    @property
    def steps(self) -> int:
        """Optimiser steps this site takes in a round, all stages together."""
        return steps_in_round(self.training, self.site.samples("train"))

    def batches(self, steps: int, stage: str) -> Iterator[Batch]:
        """`steps` batches of this round; the stage's name keys the draws."""
        key = (self.seed, self.site.name, self.order.round, stage)
        return self.site.batches(steps, self.training.batch_size, key)

    def alone(self) -> Work:
        """The same work after the rounds, with the schedule of a whole run to itself."""
        return replace(self, training=replace(self.training, rounds=1), order=replace(self.order, round=0))

    def kept_moments(self) -> State | None:
        """The optimiser's state after this site's last round, where `training.optimiser_state` keeps it."""
        return without_prefix("optimiser", self.private) if self.training.optimiser_state == "keep" else None

    def trainer(self, names: Iterable[str], steps: int, optimiser_state: State | None = None) -> Trainer:
        """A trainer for some of the tensors, placed in the run's schedule."""
        return Trainer(self.model, names, self.training, self.order.round, steps, optimiser_state)


@dataclass(frozen=True)
class Outcome:
    """What a site's work leaves: what goes back to the server, and what it keeps.

    Attributes:
        private: the site's new private state; personal tensors are added by the worker.
        extras: declared in `extras_up`.
        metrics: numbers for the log, declared in `reports`; "loss" and "steps" at least.
    """

    private: State
    extras: State
    metrics: Mapping[str, float]


class Method:
    """Federated averaging (McMahan et al., 1602.05629); a method overrides what it does otherwise.

    Attributes:
        options: the method's own.
        aggregator: how updates are merged, the second axis; the run sets it before anything else is asked.
    """

    train_default: ClassVar[Train] = "adapters"  # what `model.train = "auto"` means where there are adapters
    adapters: ClassVar[tuple[str, ...]] = ()  # those that the recipe must have in `model.adapter`
    pooled: ClassVar[bool] = False  # one pooled site takes the place of all
    unlabelled: ClassVar[bool] = False  # learns from images without labels: half of each batch, where there are any
    all_at_once: ClassVar[bool] = False  # `aggregate` looks at every update before it begins: they come on disk
    judged: ClassVar[tuple[Which, ...]] = ("global",)  # these four: see Judging; `judging` knows of both axes
    reported: ClassVar[Which] = "global"
    unseen: ClassVar[tuple[Judged, ...]] = ("global",)
    unseen_rule: ClassVar[str] = "the global model"
    decides: ClassVar[tuple[str, ...]] = ()  # keys of the experiment that `plan` sets, whatever the recipe says
    reports: ClassVar[Mapping[str, str]] = {  # the numbers of an update and what for; a site sends no other
        "loss": "mean of what training minimised over the round's steps",
        "steps": "optimiser steps that the site took",
    }
    surveyed: ClassVar[tuple[Declared, ...]] = ()
    extras_up: ClassVar[tuple[Declared, ...]] = ()
    extras_down: ClassVar[tuple[Declared, ...]] = ()
    server_state: ClassVar[tuple[Declared, ...]] = ()
    site_state: ClassVar[tuple[Declared, ...]] = (
        Declared("optimiser.", None, "float32", "moments of the optimiser, where the recipe keeps them"),
    )

    def __init__(self, options: Any = None) -> None:
        self.options: Any = options or Options()
        self.aggregator = Aggregator()

    # Before the model is built

    def survey(self, site: SiteData) -> State:
        """Statistics of a site's data that the method needs first, declared in `surveyed`; none by default."""
        return {}

    def plan(self, experiment: Experiment, surveys: Mapping[str, State]) -> tuple[Experiment, State]:
        """What the server makes of all training sites' surveys; the recipe as it is and no memory by default.

        Args:
            experiment: the recipe's.
            surveys: by site, one for every site that trains, empty where nothing is asked: they count the sites.

        Returns:
            The effective experiment, from which every site builds its model, and the server's first memory, declared
            in `server_state`, of which `orders` may send.
        """
        return experiment, {}

    # What travels

    def trains(self, name: str) -> bool:
        """Whether a live tensor is trained at all."""
        return True

    def shares(self, name: str) -> bool:
        """Whether a trained tensor travels; what does not is personal and stays at its site."""
        return True

    def starts_as_sent(self, name: str) -> bool:
        """Whether a site trains a shared tensor from what it was sent, rather than from values of its own.

        Where it does, what a small update left out (`training.updates`) is not in the site's next one, and is added.
        """
        return True

    def orders(self, server: Server, site: str) -> tuple[AnyState, State]:
        """What one site is sent: shared tensors and declared extras. The same for all by default."""
        return server.shared, {}

    # At the site

    def train(self, work: Work) -> Outcome:
        """The site's round: plain local training of all live tensors by default."""
        trainer = work.trainer(work.live, work.steps, work.kept_moments())
        loss = fit(trainer, work.batches(work.steps, "train"), self.objective(work))
        private: State = {}
        if work.training.optimiser_state == "keep":
            private = with_prefix("optimiser", trainer.optimiser_state())
        return Outcome(private, {}, {"loss": loss, "steps": trainer.done})

    def objective(self, work: Work) -> Callable[[Batch], Tensor]:
        """The loss of a batch; the recipe's segmentation loss by default."""
        return lambda batch: self.segmentation(work, work.model(*batch.inputs), batch)

    def segmentation(self, work: Work, logits: Tensor, batch: Batch) -> Tensor:
        """The recipe's segmentation loss of (B, C, h, w) logits."""
        t = work.training
        return segmentation_loss(logits, batch, t.dice_weight, t.bce_weight, t.pos_weight)

    def finish(self, work: Work) -> Outcome | None:
        """A last local stage after the last round, with the shared tensors frozen; none by default."""
        return None

    def join(self, work: Work) -> Outcome:
        """What a site that took no part keeps, after the run: `work.steps` with the shared tensors frozen.

        By default the personal tensors, on the loss of the rounds. The private state is empty, or has the personal
        tensors to start from.

        Raises:
            UserError: the method keeps no tensor of the model at a site.
        """
        names = self.personal_names(work.live)
        if not names:
            raise UserError(
                "the method keeps no part of the model at a site, so a new one has none of its own to train"
            )
        self.use(work.model, "personal")
        trainer = work.alone().trainer(names, work.steps)
        loss = fit(trainer, work.batches(work.steps, "join"), self.objective(work))
        return Outcome({}, {}, {"loss": loss, "steps": trainer.done})

    # At the server

    @property
    def needs_all(self) -> bool:
        """Whether all updates of a round must have come before they are merged, by the method's rule or the other."""
        return self.all_at_once or self.aggregator.all_at_once

    def aggregate(self, server: Server, updates: Iterable[Update]) -> Server:
        """The next state from this round's updates, which arrive in site order: sum_k n_k w_k / n.

        They are merged by the recipe's aggregator, which may do otherwise. A method with a rule of its own for the
        shared tensors leaves the aggregator no say here, and is refused beside one that merges otherwise than by the
        mean.
        """
        shared, metrics = self.aggregator.merge(server.shared, self.weigh(server, updates))
        return Server(shared, server.memory, metrics)

    def weigh(self, server: Server, updates: Iterable[Update]) -> Iterable[tuple[Mapping[str, Tensor], float]]:
        """Each site's tensors with its weight in the mean, as they arrive; `weight` says it of each by default."""
        return ((update.tensors, self.weight(server, update)) for update in updates)

    def weight(self, server: Server, update: Update) -> float:
        """The weight of one site in the mean: n_k by default."""
        return update.samples

    # Which models there are

    def personal(self, private: State, shared: AnyState) -> State:
        """The tensors that make the global model this site's own, by name.

        Args:
            private: the site's private state.
            shared: the global model's tensors, for a model that is a mix of both.
        """
        return without_prefix("personal", private)

    @property
    def judging(self) -> Judging:
        """The models to judge: the method's, and each site's own where the aggregator keeps a factor there."""
        own = Judging(self.judged, self.reported, self.unseen, self.unseen_rule)
        if not self.aggregator.personalises or "personal" in own.models:
            return own
        rule = f"the shared part with the mean of what the sites keep; beside it {own.unseen_rule} without it"
        return Judging((*own.models, "personal"), "personal", ("experts", *own.unseen), rule)

    def use(self, model: nn.Module, which: Which) -> None:
        """Put the model into the shape of "global" or "personal" before it is used; one shape by default."""

    def notes(self) -> tuple[str, ...]:
        """Sentences that a reader of the run's scores must see; none by default."""
        return ()

    # Names

    def trained_names(self, live: Iterable[str]) -> tuple[str, ...]:
        """The live names that are trained."""
        return tuple(name for name in live if self.trains(name) and self.aggregator.trains(name))

    def shared_names(self, live: Iterable[str]) -> tuple[str, ...]:
        """The live names that travel."""
        return tuple(name for name in self.trained_names(live) if self._travels(name))

    def personal_names(self, live: Iterable[str]) -> tuple[str, ...]:
        """The live names that stay."""
        return tuple(name for name in self.trained_names(live) if not self._travels(name))

    def fixes(self, name: str) -> bool:
        """Whether a tensor is as it was built at all sites and for the whole run, live or not."""
        return not self.trained_names([name])

    def _travels(self, name: str) -> bool:
        return self.shares(name) and self.aggregator.shares(name)

    def split(self, work: Work) -> tuple[State, State]:
        """After training: copies of the shared and of the personal tensors in the model."""
        return take(work.model, self.shared_names(work.live)), take(work.model, self.personal_names(work.live))
