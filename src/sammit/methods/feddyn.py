"""FedDyn: each site's loss is bent so that the sites' answers agree in the end.

    site     w_k = argmin_w F_k(w) - <g_k, w> + alpha / 2 ||w - w^t||^2,     g_k <- g_k - alpha (w_k - w^t)
    server   h <- h - alpha / K sum_{k in S} (w_k - w^t),     w^{t+1} = 1 / |S| sum_{k in S} w_k - h / alpha

Acar et al., 2111.04263; g_k and h start at zero, K counts all sites, S those that answered, and the mean is plain,
whatever the sites' sizes. h is the mean of all g_k, those of silent sites included. Where a round's steps come to the
minimum, g_k is the gradient of F_k there; here a round is a few steps of any optimiser, which the paper also does.
Some code in use pulls by the norm in place of its square, whose pull is of the same strength at any distance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from sammit.config import Experiment
from sammit.errors import UserError
from sammit.methods import base
from sammit.methods.base import Outcome, Server, Work
from sammit.methods.state import (
    WeightedMean,
    copied,
    difference,
    squared_norm,
    take,
    with_prefix,
    without_prefix,
    zeros,
)
from sammit.vocabulary import Batch, Declared, State, Update

PAPER = "Acar et al. 2021 (2111.04263)"
TRAVELS = "every trained tensor"
STAYS = "g_k, the gradient that bends the site's loss"


@dataclass(frozen=True)
class Options(base.Options):
    """`[method]` of feddyn."""

    alpha: float = 0.1  # the paper has 0.1, 0.01 and 0.001; smaller bends less

    def check(self) -> None:
        """Raise UserError where a value cannot be right."""
        if not self.alpha > 0:
            raise UserError("method.alpha: must be above 0")


class Method(base.Method):
    """A linear term that a site remembers, a pull to what it received, and the server's own correction."""

    server_state: ClassVar[tuple[Declared, ...]] = (
        Declared("drift.", None, "float32", "h, the mean of all sites' g_k"),
        Declared("sites", (), "int64", "K, also where some do not answer"),
    )
    site_state: ClassVar[tuple[Declared, ...]] = (
        *base.Method.site_state,
        Declared("dual.", None, "float32", "g_k, what this site's loss is bent by"),
    )
    options: Options

    def __init__(self, options: Options | None = None) -> None:
        super().__init__(options or Options())
        self.options.check()

    def plan(self, experiment: Experiment, surveys: Mapping[str, State]) -> tuple[Experiment, State]:
        """The experiment as it is; one survey for each site counts them, empty as it is."""
        return experiment, {"sites": torch.tensor(len(surveys))}

    def train(self, work: Work) -> Outcome:
        """FedAvg's round on the bent loss; g_k follows the way that was taken."""
        start = copied(work.order.tensors)
        dual = self._dual(work)
        outcome = super().train(work)
        moved = difference(take(work.model, start), start)
        dual = {name: g - self.options.alpha * moved[name] for name, g in dual.items()}
        return replace(outcome, private=outcome.private | with_prefix("dual", dual))

    def objective(self, work: Work) -> Callable[[Batch], Tensor]:
        """F_k(w) - <g_k, w - w^t> + alpha / 2 ||w - w^t||^2; the constant <g_k, w^t> keeps the log's loss readable."""
        plain, now = super().objective(work), dict(work.model.named_parameters())
        dual = {name: tensor.to(now[name].device) for name, tensor in self._dual(work).items()}
        start = {name: now[name].detach().clone() for name in dual}

        def objective(batch: Batch) -> Tensor:
            moved = {name: now[name] - w for name, w in start.items()}
            bends = [(g * moved[name]).sum() for name, g in dual.items()]
            return plain(batch) - torch.stack(bends).sum() + self.options.alpha / 2 * squared_norm(moved)

        return objective

    def aggregate(self, server: Server, updates: Iterable[Update]) -> Server:
        """The plain mean, moved on by what the sites' losses are bent by."""
        alpha, count = self.options.alpha, int(server.memory["sites"])
        drift = without_prefix("drift", server.memory) or zeros(server.shared)
        mean = WeightedMean()
        for update in updates:
            mean.add(update.tensors, 1)
            moved = difference(update.tensors, server.shared)
            drift = {name: h - alpha / count * moved[name] for name, h in drift.items()}
        shared = {name: w - drift[name] / alpha for name, w in mean.mean().items()}
        return Server(shared or server.shared, {**server.memory, **with_prefix("drift", drift)})

    def _dual(self, work: Work) -> State:
        """g_k, zero before the site's first round."""
        return without_prefix("dual", work.private) or zeros(work.order.tensors)
