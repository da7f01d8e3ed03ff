"""One optimiser step after another: the only training loop there is."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import ceil, cos, pi

import torch
from torch import Tensor, nn

from sammit.config import TrainingConfig
from sammit.vocabulary import Batch, State, is_adapter

Objective = Callable[[Batch], Tensor]
"""From a batch to a scalar loss that carries a gradient."""


def steps_in_round(training: TrainingConfig, samples: int) -> int:
    """Optimiser steps of a site with `samples` images or slices in one round."""
    if training.local_steps:
        return training.local_steps
    return max(1, round(training.local_epochs * ceil(samples / training.batch_size)))


class Trainer:
    """Steps on some of a model's tensors; all others are frozen while it steps.

    Use one for each stage of a round: the rate follows the run's schedule, whatever the stage's length.
    """

    def __init__(
        self,
        model: nn.Module,
        names: Iterable[str],
        training: TrainingConfig,
        round_index: int,
        steps: int,
        optimiser_state: State | None = None,
    ) -> None:
        """
        Args:
            model: carries the tensors.
            names: what is trained; whole dotted names of parameters.
            training: optimiser, rates, schedule, clipping, precision.
            round_index: 0-based; with `steps` it places each step in the run's schedule.
            steps: how many steps this stage takes in this round; 0 for a stage that is left out.
            optimiser_state: what `optimiser_state()` gave after an earlier round, to go on from.
        """
        parameters = dict(model.named_parameters())
        self.model, self.training = model, training
        self.parameters = {name: parameters[name] for name in names}
        self.round_index, self.steps, self.done = round_index, steps, 0
        self.factors = 0.0
        self.optimiser = _optimiser(self.parameters, training)
        self.total = torch.zeros(())
        if optimiser_state:
            self._restore(optimiser_state)

    def step(self, batch: Batch, objective: Objective) -> None:
        """One step on `objective(batch)`; a gradient that is not finite is left to the update's check."""
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(name in self.parameters)
        self._set_rate()
        self.optimiser.zero_grad(set_to_none=True)  # before the pass forward, at whose end memory is fullest
        device = self.training.device
        with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=self.training.precision == "bf16"):
            loss = objective(batch.to(device))
        loss.backward()  # type: ignore[no-untyped-call]
        if self.training.clip:
            nn.utils.clip_grad_norm_(self.parameters.values(), self.training.clip)
        self.optimiser.step()
        self.total = self.total + loss.detach().cpu()
        self.done += 1

    @property
    def mean_loss(self) -> float:
        """Mean objective over the steps so far; 0 before the first."""
        return float(self.total) / max(1, self.done)

    def rate_sum(self, name: str) -> float:
        """Sum of the rates over the steps so far: under plain SGD, (w_0 - w_T) over it is the mean gradient."""
        return _peak(self.training, is_adapter(name)) * self.factors

    def optimiser_state(self) -> State:
        """The optimiser's moments as named tensors on the CPU: "NAME|exp_avg", "NAME|step" and so on."""
        kept: State = {}
        for name, parameter in self.parameters.items():
            for key, value in self.optimiser.state.get(parameter, {}).items():
                kept[f"{name}|{key}"] = torch.as_tensor(value).detach().to("cpu", copy=True)
        return kept

    def _restore(self, state: State) -> None:
        for joined, value in state.items():
            name, _, key = joined.rpartition("|")
            if name in self.parameters:
                parameter = self.parameters[name]
                self.optimiser.state[parameter][key] = value.to(parameter.device, copy=True)

    def _set_rate(self) -> None:
        """Place this step in the run's schedule."""
        progress = (self.round_index + (self.done + 0.5) / max(1, self.steps)) / self.training.rounds
        factor = schedule_factor(progress, self.training)
        self.factors += factor
        for group in self.optimiser.param_groups:
            group["lr"] = group["peak"] * factor


def fit(trainer: Trainer, batches: Iterable[Batch], objective: Objective) -> float:
    """Step through `batches`; returns the mean loss."""
    for batch in batches:
        trainer.step(batch, objective)
    return trainer.mean_loss


def schedule_factor(progress: float, training: TrainingConfig) -> float:
    """The share of the peak rate at `progress` of the run: linear warm-up, then the schedule's decay to 1."""
    progress = min(progress, 1.0)
    if progress < training.warmup:
        return progress / training.warmup
    if training.schedule == "constant":
        return 1.0
    rest = (progress - training.warmup) / (1 - training.warmup)
    if training.schedule == "poly":
        return float((1 - rest) ** 0.9)
    return 0.01 + 0.99 * 0.5 * (1 + cos(pi * rest))


def _optimiser(parameters: dict[str, nn.Parameter], training: TrainingConfig) -> torch.optim.Optimizer:
    """The recipe's optimiser with one group for adapters and one for the rest, each with its peak rate.

    Fused: a tensor is read and written once a step, where torch's plain loop passes over it a dozen times.
    """
    groups = []
    for adapters in (False, True):
        chosen = [p for name, p in parameters.items() if is_adapter(name) == adapters]
        groups.append({"params": chosen, "peak": _peak(training, adapters)})
    decay = training.weight_decay
    if training.optimiser == "sgd":
        return torch.optim.SGD(groups, lr=training.lr, momentum=training.momentum, weight_decay=decay, fused=True)
    kind = torch.optim.AdamW if training.optimiser == "adamw" else torch.optim.Adam
    return kind(groups, lr=training.lr, weight_decay=decay, fused=True)


def _peak(training: TrainingConfig, adapter: bool) -> float:
    """The peak rate of adapters or of everything else."""
    return (training.adapter_lr if adapter else 0.0) or training.lr
