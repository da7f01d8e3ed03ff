"""Sites with random factors: what each sends, and the weight updates that they stand for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

import tiny
from methods.conftest import SIZE, TRAINING, Bench, Pictures
from sammit import plugins
from sammit.config import Experiment, TrainingConfig
from sammit.federation.guard import refusal
from sammit.federation.prepare import make_method
from sammit.federation.worker import Backbone
from sammit.methods.aggregators.base import Aggregator
from sammit.methods.base import Server
from sammit.methods.state import fingerprint, select
from sammit.models.build import build_model, set_trainable
from sammit.recipe import experiment_from
from sammit.vocabulary import Order, State, Update

PLACES = ("vision_encoder.layers.0.adapters.lora.q", "mask_decoder.layers.1.adapters.lora.v")
HEAD = "mask_decoder.head.weight"
UPS = tuple(f"{place}_up.weight" for place in PLACES)


RULES = plugins.names("aggregators")
MEANS = [name for name in RULES if plugins.load("aggregators", name).Aggregator.merge is Aggregator.merge]
"""The rules that take the mean of everything but pairs; the others are for updates that may be wrong."""


def rule(name: str, **options: object) -> Aggregator:
    """A rule with its options."""
    module = plugins.load("aggregators", name)
    aggregator: Aggregator = module.Aggregator(module.Options(**options))
    return aggregator


@dataclass(frozen=True)
class Sites:
    """K sites with pairs of one rank in two places, and another tensor.

    Attributes:
        states: what each site has after its round.
        weights: of each in the mean; they need not sum to one.
        widths: (out, in) of each place.
        rank: of every pair.
    """

    states: list[State]
    weights: list[float]
    widths: tuple[tuple[int, int], ...]
    rank: int

    @property
    def updates(self) -> list[tuple[State, float]]:
        return list(zip(self.states, self.weights, strict=True))

    @property
    def shares(self) -> list[float]:
        """p_k."""
        return [weight / sum(self.weights) for weight in self.weights]

    def wanted(self, place: int) -> Tensor:
        """(out, in) float64 sum_k p_k B_k A_k, added up one site after another."""
        out, given = self.widths[place]
        total = torch.zeros(out, given, dtype=torch.float64)
        for state, share in zip(self.states, self.shares, strict=True):
            total += share * update_of(state, place)
        return total


def update_of(state: State, place: int) -> Tensor:
    """(out, in) float64: entry (i, j) is the sum over r of B[i, r] A[r, j], and what the server holds beside it."""
    up, down = state[UPS[place]], state[f"{PLACES[place]}_down.weight"]
    rest = state.get(f"{PLACES[place]}_rest", torch.zeros(len(up), down.shape[1]))
    return torch.einsum("ir,rj->ij", up.double(), down.double()) + rest.double()


def random_state(widths: tuple[tuple[int, int], ...], rank: int, seed: int) -> State:
    """Factors, and a tensor that is none."""
    draw = torch.Generator().manual_seed(seed)
    state: State = {HEAD: torch.randn(3, generator=draw)}
    for place, (out, given) in zip(PLACES, widths, strict=True):
        state[f"{place}_up.weight"] = torch.randn(out, rank, generator=draw)
        state[f"{place}_down.weight"] = torch.randn(rank, given, generator=draw)
    return state


@st.composite
def sites(draw: st.DrawFn) -> Sites:
    """One to four sites, widths that differ, any rank up to the smaller width."""
    widths = tuple((draw(st.integers(2, 9)), draw(st.integers(2, 9))) for _ in PLACES)
    rank = draw(st.integers(1, min(min(pair) for pair in widths)))
    count, seed = draw(st.integers(1, 4)), draw(st.integers(0, 10**6))
    weights = draw(st.lists(st.integers(1, 500), min_size=count, max_size=count))
    states = [random_state(widths, rank, seed + k) for k in range(count)]
    return Sites(states, [float(weight) for weight in weights], widths, rank)


def relative(found: Tensor, expected: Tensor) -> float:
    """Norm of the difference over that of what is expected."""
    return float((found - expected).norm() / expected.norm().clamp_min(1e-30))


@dataclass
class Paired(Bench):
    """A method with a rule beside it, around one model; what the server holds is in `server`."""

    @property
    def server(self) -> Server:
        """Before the first round."""
        sites = {name: self.method.survey(Pictures(name)) for name in ("a", "b")}
        _, memory = self.method.plan(Experiment(training=self.training), sites)
        return Server(self.start | select(self.backbone.start, self.method.aggregator.holds), memory)


def paired(method: str, rule: str, training: TrainingConfig = TRAINING, **options: Any) -> Paired:
    """A method and a rule as a run prepares them; site "b" has rank 2 of 4 under FlexLoRA.

    Raises:
        UserError: as a run would.
    """
    chosen = {"name": method, "aggregator": rule, **options}
    if rule == "flexlora":
        chosen.setdefault(rule, {"ranks": {"b": 2}})
    adapters = list(dict.fromkeys(["lora", *tiny.adapters_of(method)]))
    experiment = experiment_from({"model": {"weights": "random", "adapter": adapters}, "method": chosen})
    whole = make_method(experiment)
    experiment = whole.aggregator.plan(experiment)
    network = build_model(experiment.model, SIZE, 1, 0)
    live = whole.trained_names(set_trainable(network, whole.train_default))
    held = [name for name, _ in network.named_parameters() if whole.aggregator.holds(name)]
    made = Paired(whole, Backbone.of(network, live, held), training)
    whole.aggregator.check(made.server.shared, ["a", "b"])
    return made


@dataclass
class Loop:
    """The round loop without scoring, over two sites "a" and "b" of pictures; what is not declared is refused."""

    b: Paired
    folder: Path

    def __post_init__(self) -> None:
        self.server, self.index = self.b.server, 0
        self.orders: dict[str, Order] = {}
        self.updates: dict[str, Update] = {}

    def round(self) -> Server:
        """Orders, updates, the next state."""
        method, rule = self.b.method, self.b.method.aggregator
        for site in ("a", "b"):
            tensors, extras = method.orders(self.server, site)
            tensors, before = rule.cut(tensors, site), self.orders.get(site)
            taken = (self.index - 1, before.fingerprint) if before else (-1, "")
            order = Order("train", site, self.index, tensors, extras, fingerprint(tensors), *taken)
            update = self.b.worker(self.folder, Pictures(site)).handle(order)
            assert isinstance(update, Update)
            template = rule.cut(self.b.start, site)
            assert refusal(update, self.index, template, method.extras_up, method.reports) == ""
            self.orders[site], self.updates[site] = order, update
        self.server = method.aggregate(self.server, list(self.updates.values()))
        self.index += 1
        return self.server
