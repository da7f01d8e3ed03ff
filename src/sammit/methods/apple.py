"""APPLE: every site mixes all sites' models with weights of its own.

    W_i = sum_j p_ij w_j        w_j the core model of site j, sent to all; p_i stays at site i
    site     (w_i, p_i) <- argmin F_i(W_i) + c(t) ||p_i - p^0||^2,      other cores frozen,      p^0_j = n_j / n
    server   keeps the cores, averages nothing
    c(t)     mu times 0.001^(t / L), or (1 + cos(pi t / L)) / 2, in the first L rounds; then 0

Luo & Wu, IJCAI 2022, 2110.08394; defaults are the published code's: mu 0.1, exponential, L a tenth of the rounds, p by
SGD with rate 0.001 and momentum 0.9, anew each round; p is not held to the simplex. Their code mixes the outputs of
layers, which is the same for layers that are linear in their weights; here all weights that travel are mixed.

A site uses W_i as it was when it last trained. APPLE has no global model; what stands for one here is the mean of the
cores by n_j. Each round a site is sent all K cores, so that traffic down is K times FedAvg's and grows with the sites,
and a site's memory holds K times what is shared. The paper's limit to a few cores a round is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import cos, pi
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.func import functional_call

from sammit.config import Experiment
from sammit.errors import UserError
from sammit.methods import base
from sammit.methods.base import Outcome, Server, Which, Work
from sammit.methods.state import WeightedMean, copied, put, with_prefix, without_prefix
from sammit.vocabulary import AnyState, Batch, Declared, SiteData, State, Update

PAPER = "Luo & Wu 2022 (2110.08394)"
TRAVELS = "the core models: a site's own up, all sites' down; once, its number of training samples"
STAYS = "p_i, the site's weights for all cores, and its mixed model"


@dataclass(frozen=True)
class Options(base.Options):
    """`[method]` of apple."""

    p_lr: float = 1e-3  # rate of p
    p_momentum: float = 0.9  # of p's SGD
    mu: float = 0.1  # of the pull of p to n_j / n
    pull_rounds: float = 0.1  # L, as a share of all rounds
    pull_schedule: Literal["exponential", "cosine"] = "exponential"  # how the pull fades over L

    def check(self) -> None:
        """Raise UserError where a value cannot be right."""
        if not (self.p_lr >= 0 and self.mu >= 0 and 0 <= self.p_momentum < 1):
            raise UserError("method: p_lr and mu must be 0 or more, p_momentum at least 0 and below 1")
        if not 0 <= self.pull_rounds <= 1:
            raise UserError("method.pull_rounds: must be between 0 and 1, a share of all rounds")


class Method(base.Method):
    """Cores at the server, weights at the sites."""

    judged: ClassVar[tuple[Which, ...]] = ("global", "personal")
    reported: ClassVar[Which] = "personal"
    unseen_rule: ClassVar[str] = "the mean of the sites' core models, weighted by their training samples"
    surveyed: ClassVar[tuple[Declared, ...]] = (
        Declared("samples", (), "int64", "training images, or slices, of the site"),
    )
    extras_down: ClassVar[tuple[Declared, ...]] = (
        Declared("core.", None, "float32", "the other sites' core models, by the site's place among all"),
        Declared("start.", (), "float32", "each site's share of all training samples, by its place"),
        Declared("place", (), "int64", "the place of the site that is asked"),
    )
    server_state: ClassVar[tuple[Declared, ...]] = (
        Declared("core.", None, "float32", "the core models, by the site's place among all"),
        Declared("samples.", (), "int64", "training images, or slices, of each site"),
    )
    site_state: ClassVar[tuple[Declared, ...]] = (
        *base.Method.site_state,
        Declared("p.", (), "float32", "this site's weight of each core, by place"),
        Declared("mixed.", None, "float32", "this site's own model, the mixture as of its last round"),
    )
    options: Options

    def __init__(self, options: Options | None = None) -> None:
        super().__init__(options or Options())
        self.options.check()

    def survey(self, site: SiteData) -> State:
        """n_j, which p starts from."""
        return {"samples": torch.tensor(site.samples("train"))}

    def plan(self, experiment: Experiment, surveys: Mapping[str, State]) -> tuple[Experiment, State]:
        """The experiment as it is; the server remembers every n_j."""
        return experiment, {f"samples.{site}": survey["samples"] for site, survey in surveys.items()}

    def notes(self) -> tuple[str, ...]:
        """What the global model is."""
        return ("APPLE has no global model; the one judged here is the mean of the sites' core models.",)

    def orders(self, server: Server, site: str) -> tuple[AnyState, State]:
        """The site's own core, and beside it the others'."""
        samples, cores = _samples(server), _cores(server)
        own, total = list(samples).index(site), sum(samples.values())
        extras: State = {"place": torch.tensor(own)}
        for place, count in enumerate(samples.values()):
            extras[f"start.{place}"] = torch.tensor(count / total)
            if place != own:
                extras |= with_prefix(f"core.{place}", cores[place])
        return cores[own], extras

    def train(self, work: Work) -> Outcome:
        """The own core and p together, on the mixed model."""
        put(work.model, work.order.tensors)  # the worker has put the mixture there
        mixture = _Mixture(work, self.options)
        trainer = work.trainer(work.live, work.steps, work.kept_moments())
        pull = pull_weight(self.options, work.order.round, work.training.rounds)

        def objective(batch: Batch) -> Tensor:
            logits = functional_call(work.model, mixture.mixed(), batch.inputs)
            return self.segmentation(work, logits, batch) + pull * mixture.away()

        for batch in work.batches(work.steps, "train"):
            trainer.step(batch, objective)
            mixture.step()
        private = with_prefix("p", mixture.weights()) | with_prefix("mixed", copied(mixture.mixed()))
        if work.training.optimiser_state == "keep":
            private |= with_prefix("optimiser", trainer.optimiser_state())
        return Outcome(private, {}, {"loss": trainer.mean_loss, "steps": trainer.done})

    def personal(self, private: State, shared: AnyState) -> State:
        """The mixture; before a site's first round there is none."""
        return without_prefix("mixed", private)

    def aggregate(self, server: Server, updates: Iterable[Update]) -> Server:
        """The cores that came replace those that were; a silent site's stays."""
        samples, cores = _samples(server), _cores(server)
        for update in updates:
            cores[list(samples).index(update.site)] = dict(update.tensors)
        mean = WeightedMean()
        memory = dict(server.memory)
        for place, count in enumerate(samples.values()):
            mean.add(cores[place], count)
            memory |= with_prefix(f"core.{place}", cores[place])
        return Server(mean.mean(), memory)


class _Mixture:
    """One site's p and the cores that it weighs."""

    def __init__(self, work: Work, options: Options) -> None:
        """From an order: the model's tensors are the site's own core, the extras hold the others and p^0."""
        device, extras = work.training.device, work.order.extras
        start, kept = without_prefix("start", extras), without_prefix("p", work.private)
        self.place, places = int(extras["place"]), range(len(start))
        self.own = {name: tensor for name, tensor in work.model.named_parameters() if name in work.order.tensors}
        cores = {place: without_prefix(f"core.{place}", extras) for place in places if place != self.place}
        self.others = {place: {name: w.to(device) for name, w in core.items()} for place, core in cores.items()}
        self.start = torch.stack([start[str(place)] for place in places]).to(device)
        self.p = torch.stack([(kept or start)[str(place)] for place in places]).to(device).requires_grad_()
        self._optimiser = torch.optim.SGD([self.p], lr=options.p_lr, momentum=options.p_momentum)

    def mixed(self) -> State:
        """sum_j p_j w_j, with a gradient to p and to the own core."""
        total = {name: self.p[self.place] * tensor for name, tensor in self.own.items()}
        for place, core in self.others.items():
            total = {name: tensor + self.p[place] * core[name] for name, tensor in total.items()}
        return total

    def away(self) -> Tensor:
        """||p - p^0||^2, a scalar."""
        return (self.p - self.start).square().sum()

    def step(self) -> None:
        """One step of p on the gradient that the last loss left."""
        self._optimiser.step()
        self._optimiser.zero_grad()

    def weights(self) -> State:
        """p as it is kept, by place."""
        return {str(place): p.clone() for place, p in enumerate(self.p.detach().cpu())}


def _samples(server: Server) -> dict[str, int]:
    """n_j by site, in order of name: a site's place is its place here."""
    counts = without_prefix("samples", server.memory)
    return {site: int(counts[site]) for site in sorted(counts)}


def _cores(server: Server) -> list[AnyState]:
    """The core models by place; all are the first shared tensors before the first round."""
    places = range(len(_samples(server)))
    return [without_prefix(f"core.{place}", server.memory) or server.shared for place in places]


def pull_weight(options: Options, round_index: int, rounds: int) -> float:
    """c(t) in round t of `rounds`."""
    last = int(rounds * options.pull_rounds)
    if round_index >= last:
        return 0.0
    if options.pull_schedule == "cosine":
        return options.mu * (1 + cos(pi * round_index / last)) / 2
    return float(options.mu * 0.001 ** (round_index / last))
