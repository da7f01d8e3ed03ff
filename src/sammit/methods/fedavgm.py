"""Federated averaging with momentum at the server (FedAvgM).

    Delta = sum_k p_k (w_k - w^t),     m^{t+1} = beta m^t + Delta,     w^{t+1} = w^t + eta m^{t+1}

Hsu et al., 1909.06335; p_k = n_k / n. A site does what it does under FedAvg. m starts at zero, so that with eta = 1 the
first round is FedAvg's; a steady Delta is taken eta / (1 - beta) times in the long run, ten times at the defaults.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar

from sammit.errors import UserError
from sammit.methods import base
from sammit.methods.base import Server
from sammit.methods.state import difference, with_prefix, without_prefix, zeros
from sammit.vocabulary import Declared, Update

PAPER = "Hsu et al. 2019 (1909.06335)"
TRAVELS = "every trained tensor"
STAYS = "nothing but the optimiser's moments, where they are kept"


@dataclass(frozen=True)
class Options(base.Options):
    """`[method]` of fedavgm."""

    momentum: float = 0.9  # beta
    lr: float = 1.0  # eta, the server's own; training.lr is the sites'

    def check(self) -> None:
        """Raise UserError where a value cannot be right."""
        if not 0 <= self.momentum < 1 or not self.lr > 0:
            raise UserError("method: momentum must be at least 0 and below 1, lr above 0")


class Method(base.Method):
    """FedAvg's sites; the server goes on in the direction it came from."""

    server_state: ClassVar[tuple[Declared, ...]] = (
        Declared("momentum.", None, "float32", "m, the decayed sum of the sites' mean changes"),
    )
    options: Options

    def __init__(self, options: Options | None = None) -> None:
        super().__init__(options or Options())
        self.options.check()

    def aggregate(self, server: Server, updates: Iterable[Update]) -> Server:
        """One step along the momentum of the mean changes."""
        mean = super().aggregate(server, updates)
        before = without_prefix("momentum", server.memory) or zeros(server.shared)
        step = difference(mean.shared, server.shared)
        momentum = {name: self.options.momentum * before[name] + change for name, change in step.items()}
        shared = {name: server.shared[name] + self.options.lr * m for name, m in momentum.items()}
        return replace(mean, shared=shared, memory=with_prefix("momentum", momentum))
