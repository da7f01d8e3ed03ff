"""Federated averaging with Adam at the server (FedAdam of FedOpt).

    Delta = sum_k p_k (w_k - w^t)
    m <- beta_1 m + (1 - beta_1) Delta,     v <- beta_2 v + (1 - beta_2) Delta^2
    w^{t+1} = w^t + eta m / (sqrt(v) + tau)

Reddi et al., 2003.00295, algorithm 2. A site does what it does under FedAvg. There is no correction of the first
rounds' bias; m starts at zero and v at tau^2, the least that the paper allows. A number that no site moves never moves.
The paper searches eta and tau for each task; here eta is that of its steps' usual size with Adam at the sites.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from sammit.errors import UserError
from sammit.methods import base
from sammit.methods.base import Server
from sammit.methods.state import difference, with_prefix, without_prefix, zeros
from sammit.vocabulary import Declared, Update

PAPER = "Reddi et al. 2021 (2003.00295)"
TRAVELS = "every trained tensor"
STAYS = "nothing but the optimiser's moments, where they are kept"


@dataclass(frozen=True)
class Options(base.Options):
    """`[method]` of fedadam."""

    lr: float = 0.01  # eta, the server's own; training.lr is the sites'
    beta1: float = 0.9  # of m
    beta2: float = 0.99  # of v
    tau: float = 1e-3  # how far a step may adapt: small is more

    def check(self) -> None:
        """Raise UserError where a value cannot be right."""
        if not (self.lr > 0 and self.tau > 0):
            raise UserError("method: lr and tau must be above 0")
        if not (0 <= self.beta1 < 1 and 0 <= self.beta2 < 1):
            raise UserError("method: beta1 and beta2 must be at least 0 and below 1")


class Method(base.Method):
    """FedAvg's sites; the server scales each number's step by how much it used to change."""

    server_state: ClassVar[tuple[Declared, ...]] = (
        Declared("first.", None, "float32", "m, the running mean of the sites' mean change"),
        Declared("second.", None, "float32", "v, the running mean of its square"),
    )
    options: Options

    def __init__(self, options: Options | None = None) -> None:
        super().__init__(options or Options())
        self.options.check()

    def aggregate(self, server: Server, updates: Iterable[Update]) -> Server:
        """One step of Adam along the mean change."""
        o = self.options
        mean = super().aggregate(server, updates)
        nothing = zeros(server.shared)
        first = without_prefix("first", server.memory) or nothing
        second = without_prefix("second", server.memory) or {name: zero + o.tau**2 for name, zero in nothing.items()}
        step = difference(mean.shared, server.shared)
        first = {name: o.beta1 * first[name] + (1 - o.beta1) * change for name, change in step.items()}
        second = {name: o.beta2 * second[name] + (1 - o.beta2) * change**2 for name, change in step.items()}
        shared = {
            name: server.shared[name] + o.lr * m / (torch.sqrt(second[name]) + o.tau) for name, m in first.items()
        }
        return replace(mean, shared=shared, memory=with_prefix("first", first) | with_prefix("second", second))
