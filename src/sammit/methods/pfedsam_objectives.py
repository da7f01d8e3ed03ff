"""What pFedSAM's two stages minimise: the terms beside the segmentation loss, their weights and their options.

Orthogonality is the idea of IAT (2606.08687), whose formula was not at hand: what is shared and what is
local should not learn the same. Of the shared low-rank update B A and a site's experts U_e D_e only the inputs can be
compared: both read tokens of one residual stream, normalised, while B writes into queries and values and U_e into the
stream. So it is a squared normalised cosine between the row spaces, for each block that has both,

    ||A D^T||_F^2 / (||A||_F^2 ||D||_F^2)  in [0, 1],     A: the block's q and v factors,  D: all its experts', as rows

averaged over these blocks: cos^2 where each is one row, 0 where no row of one leans on a row of the other. It is in the
local stage alone: the experts make room. In the global stage it would pull each site's A by its own private experts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import cos, pi
from typing import Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call

from sammit.errors import UserError
from sammit.learning.loop import Objective
from sammit.learning.losses import distillation_loss
from sammit.methods.aggregators.factors import is_down
from sammit.methods.base import Method, Which, Work
from sammit.methods.state import squared_norm, take
from sammit.vocabulary import Batch, State

EXPERTS = "mixture"


@dataclass(frozen=True)
class Terms:
    """The options of the terms, part of `[method]` of pfedsam."""

    global_stage_moe: Literal["bypass", "frozen_in_path"] = "bypass"  # the experts, while the shared part is trained
    kd_direction: Literal["global_to_local", "local_to_global", "mutual", "none"] = "global_to_local"  # who teaches
    kd_weight: float = 0.5  # lambda at its highest
    kd_schedule: Literal["warm_cosine", "constant"] = "warm_cosine"  # of lambda over the rounds
    kd_temperature: float = 2.0  # T
    balance_weight: float = 0.01  # beta, for sparse routing
    prox_weight: float = 0.0  # mu / 2 ||phi - phi^t||^2 in the global stage
    orth_weight: float = 0.0  # gamma, of the experts' overlap with the shared low-rank factors; needs both adapters

    def check(self) -> None:
        """Raise UserError where a value cannot be right."""
        if not self.kd_temperature > 0:
            raise UserError("method.kd_temperature: must be above 0")
        for name in ("kd_weight", "balance_weight", "prox_weight", "orth_weight"):
            if not getattr(self, name) >= 0:
                raise UserError(f"method.{name}: must not be below 0")


@dataclass(frozen=True)
class Objectives:
    """The losses of both stages of one site's round.

    Attributes:
        method: puts the model into the shape of "global" or "personal", and has the segmentation loss.
        terms: the method's options.
        work: the site's.
    """

    method: Method
    terms: Terms
    work: Work

    def shared(self, received: State) -> Objective:
        """L_seg of the shared part; with the options, a pull to phi^t and to the masks of f(phi^t, psi).

        Args:
            received: phi^t; psi are the experts as they are now, when the stage begins.
        """
        model = self.work.model
        teacher = received | take(model, self.method.personal_names(self.work.live))
        path: Which = "global" if self.terms.global_stage_moe == "bypass" else "personal"

        def objective(batch: Batch) -> Tensor:
            self.method.use(model, path)
            logits = model(*batch.inputs)
            loss = self.method.segmentation(self.work, logits, batch)
            if self.terms.prox_weight:
                own = dict(model.named_parameters())
                moved = {name: own[name] - start.to(own[name]) for name, start in received.items()}
                loss = loss + self.terms.prox_weight / 2 * squared_norm(moved)
            if self.terms.kd_direction in ("local_to_global", "mutual"):
                loss = loss + self._distilled(logits, teacher, "personal", batch)
            return loss

        return objective

    def personal(self, teacher: State) -> Objective:
        """L_seg of the personal model, distilled from the shared one, balanced, and apart from what is shared.

        Args:
            teacher: the shared tensors that teach; those in the model where it has none.
        """
        model = self.work.model
        blocks = blocks_with_both(name for name, _ in model.named_parameters())

        def objective(batch: Batch) -> Tensor:
            self.method.use(model, "personal")
            logits = model(*batch.inputs)
            loss = self.method.segmentation(self.work, logits, batch) + self.terms.balance_weight * balance(model)
            if self.terms.orth_weight:
                loss = loss + self.terms.orth_weight * overlap(dict(model.named_parameters()), blocks)
            if self.terms.kd_direction in ("global_to_local", "mutual"):
                loss = loss + self._distilled(logits, teacher, "global", batch)
            return loss

        return objective

    def _distilled(self, student: Tensor, teacher: State, which: Which, batch: Batch) -> Tensor:
        """lambda times the divergence from the model that has `teacher` in place of its own tensors."""
        order, training, terms = self.work.order, self.work.training, self.terms
        self.method.use(self.work.model, which)
        on_device = {name: tensor.to(batch.images.device) for name, tensor in teacher.items()}
        with torch.no_grad():
            taught: Tensor = functional_call(self.work.model, on_device, batch.inputs)
        weight = kd_weight(terms.kd_weight, order.round / max(1, training.rounds), terms.kd_schedule)
        return weight * distillation_loss(student, taught, batch.valid, terms.kd_temperature)


def kd_weight(peak: float, progress: float, schedule: str = "warm_cosine") -> float:
    """lambda at `progress` in [0, 1): linear to `peak` over the first tenth, then a cosine to a fifth; or constant."""
    if schedule == "constant":
        return peak
    if progress < 0.1:
        return peak * (progress / 0.1)
    return peak * (0.2 + 0.8 * 0.5 * (1 + cos(pi * (progress - 0.1) / 0.9)))


def balance(model: nn.Module) -> Tensor:
    """Sum of the routers' balance losses of the last forward pass; zero where routing is dense."""
    losses = [b for m in model.modules() if isinstance(b := getattr(m, "balance", None), Tensor)]
    return torch.stack(losses).sum() if losses else torch.zeros(())


def blocks_with_both(names: Iterable[str]) -> list[tuple[list[str], str]]:
    """The names of the factors A and of the experts' D, for each block of the encoder that has both."""
    known = list(names)
    ends = f".adapters.{EXPERTS}.down"
    found = []
    for experts in (name for name in known if name.endswith(ends)):
        lora = f"{experts.removesuffix(ends)}.adapters.lora."
        downs = [name for name in known if name.startswith(lora) and is_down(name)]
        found += [(downs, experts)] if downs else []
    return found


def overlap(tensors: State, blocks: list[tuple[list[str], str]]) -> Tensor:
    """Mean over blocks of ||A D^T||_F^2 / (||A||_F^2 ||D||_F^2).

    Args:
        tensors: A are (R, D); the experts' are (E, r, D), taken as E r rows.
        blocks: from `blocks_with_both`, at least one.
    """
    found = []
    for downs, experts in blocks:
        a = torch.cat([tensors[name] for name in downs])
        d = tensors[experts].flatten(0, 1)
        norms = a.square().sum() * d.square().sum()
        found.append((a @ d.T).square().sum() / norms.clamp_min(1e-30))
    return torch.stack(found).mean()
