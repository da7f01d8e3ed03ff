"""A site of random pictures in memory, and a method with a tiny Segment Anything around it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import tiny
from sammit import plugins
from sammit.config import Experiment, ModelConfig, TrainingConfig
from sammit.federation.memory import PrivateMemory
from sammit.federation.worker import Backbone, Worker
from sammit.geometry import View
from sammit.methods.base import Method, Work
from sammit.methods.state import put, select
from sammit.models.build import build_model, set_trainable
from sammit.randomness import key_to_seed
from sammit.toml import build
from sammit.vocabulary import Batch, Case, Loaded, Order, Part, State

TRAINING = TrainingConfig(rounds=10, local_steps=4, batch_size=2, lr=2e-3, warmup=0.0, weight_decay=0.0)
METHODS = tiny.METHODS
SIZE = 32


@dataclass
class Pictures:
    """A site whose batches are bright squares on noise, a pure function of their key."""

    name: str = "a"
    count: int = 6
    structures: tuple[str, ...] = ("disc",)
    stages: list[str] = field(default_factory=list)  # the last part of every key that was asked for

    def cases(self, part: Part) -> list[Case]:
        return []

    def samples(self, part: Part) -> int:
        return self.count

    def batches(self, steps: int, batch_size: int, key: tuple[object, ...]) -> Iterator[Batch]:
        for step in range(steps):
            self.stages.append(str(key[-1]))
            yield picture(batch_size, key_to_seed(*key, step))

    def load(self, case: Case) -> Loaded:
        raise KeyError(case.name)


def picture(count: int, seed: int) -> Batch:
    """One batch: a bright square somewhere is the disc; the last column is unlabelled."""
    draw = torch.Generator().manual_seed(seed % 2**31)
    images = torch.rand(count, 3, SIZE, SIZE, generator=draw) * 0.5
    truth, valid = torch.zeros(count, 1, SIZE, SIZE), torch.ones(count, 1, SIZE, SIZE)
    for index, (top, left) in enumerate(torch.randint(0, SIZE - 12, (count, 2), generator=draw).tolist()):
        truth[index, 0, top : top + 12, left : left + 12] = 1
    valid[..., -1] = 0
    return Batch(images + 0.5 * truth, truth, valid)


@dataclass
class Bench:
    """A method and one model, as a process of simulated sites has them."""

    method: Method
    backbone: Backbone
    training: TrainingConfig = TRAINING

    @property
    def model(self) -> nn.Module:
        return self.backbone.model

    @property
    def shared(self) -> tuple[str, ...]:
        return self.method.shared_names(self.backbone.live)

    @property
    def personal(self) -> tuple[str, ...]:
        return self.method.personal_names(self.backbone.live)

    @property
    def start(self) -> State:
        """The shared tensors of round 0."""
        return select(self.backbone.start, set(self.shared).__contains__)

    def work(self, site: Pictures | None = None, round_index: int = 0, **given: Any) -> Work:
        """What `Method.train` is handed; `shared`, `extras`, `private` and `training` may be given."""
        shared, private = given.get("shared", self.start), given.get("private", {})
        put(self.model, {**self.backbone.start, **shared, **self.method.personal(private, shared)})
        site, training = site or Pictures(), given.get("training", self.training)
        order = Order("train", site.name, round_index, shared, given.get("extras", {}))
        return Work(order, self.model, self.backbone.live, site, private, training, 0)

    @torch.no_grad()
    def logits(self, state: State, which: Any, images: Tensor) -> Tensor:
        """What the model says with `state` put in, run as `which` of the method's models."""
        put(self.model, state)
        self.method.use(self.model, which)
        result: Tensor = self.model(images)
        return result

    def worker(self, folder: Path, site: Pictures | None = None) -> Worker:
        """A hospital's side with its private state in `folder`."""
        site = site or Pictures()
        experiment = Experiment(training=self.training)
        memory = PrivateMemory(folder / site.name)
        return Worker(site, View("whole", SIZE), self.method, self.backbone, memory, experiment)


def bench(
    name: str, options: dict[str, Any] | None = None, training: TrainingConfig = TRAINING, /, **model: Any
) -> Bench:
    """A method of the plugins around sam-tiny with random weights, low-rank factors and experts."""
    module = plugins.load("methods", name)
    method = module.Method(build(module.Options, options or {}, "method"))
    adapters = tuple(dict.fromkeys(("lora", "mixture", *method.adapters)))
    config = ModelConfig(**{"weights": "random", "adapter": adapters, **model})
    network = build_model(config, SIZE, 1, 0)
    live = method.trained_names(set_trainable(network, method.train_default))
    return Bench(method, Backbone.of(network, live), replace(training))


def noisy(state: State, seed: int = 0, size: float = 0.05) -> State:
    """The same tensors with noise, so that no zero at the start hides a term."""
    draw = torch.Generator().manual_seed(seed)
    return {name: tensor + size * torch.randn(tensor.shape, generator=draw) for name, tensor in state.items()}


def equal(first: State, second: State) -> bool:
    """Whether two states have the same names and the same bits."""
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
