"""pFedSAM: a shared low-rank part, a local mixture of experts, and distillation between the two.

Wang et al., 2509.15638. The body of the paper was not available when this was written: this is a reconstruction from
its abstract. Every choice the abstract leaves open is an option below; none of its numbers is claimed.

phi: what travels (low-rank factors and decoder; with `shared = "full"` the whole network). psi_k: the experts of site
k, which never leave it. One round at site k, E the share of steps given to each stage:

    receive phi^t
    global stage   phi_k <- argmin L_seg(f(x; phi)),                              experts bypassed
    local stage    psi_k <- argmin L_seg(f(x; phi_k, psi)) + lambda(t) KD + beta L_balance,     phi_k frozen
    send phi_k, n_k;      server: phi^{t+1} = sum_k (n_k / n) phi_k

KD is the tempered Bernoulli divergence from the teacher's logits (learning.losses.distillation_loss). lambda rises
linearly over the first tenth of the rounds and falls with a cosine to a fifth of itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import cos, pi
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.func import functional_call

from sammit.errors import UserError
from sammit.learning.loop import Trainer, fit
from sammit.learning.losses import distillation_loss
from sammit.methods import base
from sammit.methods.base import Judged, Outcome, Train, Which, Work
from sammit.methods.state import copied, has_component, set_active, squared_norm, take, with_prefix, without_prefix
from sammit.vocabulary import Batch, Declared, State

PAPER = "Wang et al. 2025 (2509.15638), a reconstruction from its abstract"
TRAVELS = "low-rank factors and mask decoder (shared = lora), or the whole network (shared = full)"
STAYS = "the mixture of experts with its router, and their optimiser's moments"

EXPERTS = "mixture"


@dataclass(frozen=True)
class Options:
    """`[method]` of pfedsam."""

    shared: Literal["lora", "full"] = "lora"  # full: the encoder is trained and travels too
    decoder: Literal["full", "frozen", "local"] = "full"  # trained and sent, kept as it is, or trained and kept
    global_share: float = 0.5  # share of a round's steps in the global stage; both get one where there are two
    stage_order: Literal["global_local", "local_global", "interleaved"] = "global_local"
    global_stage_moe: Literal["bypass", "frozen_in_path"] = "bypass"
    kd_direction: Literal["global_to_local", "local_to_global", "mutual", "none"] = "global_to_local"
    kd_teacher: Literal["received", "trained", "ema"] = "received"  # phi^t, phi_k after its stage, or its average
    kd_weight: float = 0.5  # lambda
    kd_temperature: float = 2.0  # T
    ema_decay: float = 0.9  # of the "ema" teacher, a round
    balance_weight: float = 0.01  # beta, for sparse routing
    prox_weight: float = 0.0  # mu / 2 ||phi - phi^t||^2 in the global stage
    final_local_epochs: float = 1.0  # local stage after the last aggregation, in rounds' worth of local steps; 0: none

    def check(self) -> None:
        """Raise UserError where a value cannot be right."""
        if not 0 <= self.global_share <= 1:
            raise UserError("method.global_share: must be between 0 and 1")
        weights = (self.kd_weight, self.balance_weight, self.prox_weight)
        if not self.kd_temperature > 0 or not all(weight >= 0 for weight in weights):
            raise UserError(
                "method: kd_temperature must be above 0, kd_weight, balance_weight and prox_weight not below"
            )
        if not self.final_local_epochs >= 0 or not 0 <= self.ema_decay < 1:
            raise UserError("method: final_local_epochs must not be below 0, ema_decay must be in [0, 1)")


class Method(base.Method):
    """Both halves of pFedSAM."""

    judged: ClassVar[tuple[Which, ...]] = ("global", "personal")
    reported: ClassVar[Which] = "personal"
    unseen: ClassVar[tuple[Judged, ...]] = ("global", "experts")
    unseen_rule: ClassVar[str] = "the shared part only, experts bypassed; beside it with the mean of the sites' experts"
    reports: ClassVar[Mapping[str, str]] = {
        **base.Method.reports,
        "global_loss": "mean objective of the global stage",
        "local_loss": "mean objective of the local stage",
    }
    site_state: ClassVar[tuple[Declared, ...]] = (
        Declared("optimiser.", None, "float32", "the experts' moments; the shared part's where they are kept"),
        Declared("ema.", None, "float32", "running average of the shared tensors, the 'ema' teacher"),
    )
    options: Options

    def __init__(self, options: Options | None = None) -> None:
        super().__init__(options or Options())
        self.options.check()

    @property
    def train_default(self) -> Train:  # type: ignore[override]
        """`shared = "full"` trains the encoder as well."""
        return "all" if self.options.shared == "full" else "adapters"

    def trains(self, name: str) -> bool:
        """Everything live, but not a frozen decoder."""
        return self.options.decoder != "frozen" or not _is_decoder(name)

    def shares(self, name: str) -> bool:
        """All but the experts; the decoder stays too where it is local."""
        if has_component(name, EXPERTS):
            return False
        return self.options.decoder != "local" or not _is_decoder(name)

    def use(self, model: torch.nn.Module, which: Which) -> None:
        """The global model is the shared part with the experts bypassed."""
        set_active(model, EXPERTS, which == "personal")

    def notes(self) -> tuple[str, ...]:
        """That this is a reconstruction, and whether experts were trained once more after the last aggregation."""
        rounds = self.options.final_local_epochs
        last = (
            f"After the last aggregation each site trained its experts once more, for {rounds:g} rounds' worth of "
            "local steps, with the shared part frozen."
            if rounds
            else "Experts were not trained again after the last aggregation."
        )
        return "This pFedSAM is a reconstruction from the paper's abstract.", last

    def train(self, work: Work) -> Outcome:
        """Global and local stage in the order of the options; both stages together take the round's steps."""
        received = copied(work.order.tensors)
        ema = self._ema(work, received)
        teacher = self._teacher(received, ema)
        shared_steps = global_steps(work.steps, self.options.global_share)
        shared = self._trainer(work, "global", shared_steps)
        local = self._trainer(work, "local", work.steps - shared_steps)
        stages = {
            "global": lambda: fit(shared, work.batches(shared.steps, "global"), self._global_objective(work, received)),
            "local": lambda: fit(local, work.batches(local.steps, "local"), self._local_objective(work, teacher)),
        }
        if self.options.stage_order == "interleaved":
            self._interleave(work, shared, local, received, teacher)
        else:
            for stage in self.options.stage_order.split("_"):
                stages[stage]()
        self.use(work.model, "personal")
        moments = local.optimiser_state()
        if work.training.optimiser_state == "keep":
            moments |= shared.optimiser_state()
        private = with_prefix("optimiser", moments) | with_prefix("ema", ema)
        metrics = {
            "loss": (shared.total + local.total).item() / max(1, shared.done + local.done),
            "global_loss": shared.mean_loss,
            "local_loss": local.mean_loss,
            "steps": shared.done + local.done,
        }
        return Outcome(private, {}, metrics)

    def finish(self, work: Work) -> Outcome | None:
        """One more local stage on the final shared tensors, since the experts were fitted to phi_k, not to the mean.

        It has the schedule of a whole run to itself: the rounds' own has come to an end by then.
        """
        local = work.steps - global_steps(work.steps, self.options.global_share)
        steps = round(local * self.options.final_local_epochs)
        if not steps:
            return None
        last = replace(work, training=replace(work.training, rounds=1), order=replace(work.order, round=0))
        trainer = self._trainer(last, "local", steps)
        received = copied(work.order.tensors)
        teacher = self._teacher(received, self._ema(work, received))
        fit(trainer, work.batches(steps, "final"), self._local_objective(work, teacher))
        self.use(work.model, "personal")
        private = with_prefix("optimiser", trainer.optimiser_state())
        return Outcome(private, {}, {"loss": trainer.mean_loss, "steps": trainer.done})

    def _trainer(self, work: Work, stage: Literal["global", "local"], steps: int) -> Trainer:
        """A stage's trainer; the experts' moments are always kept, the shared part's where the recipe says so."""
        names = self.shared_names(work.live) if stage == "global" else self.personal_names(work.live)
        if steps and not names:
            mend = "'lora'" if stage == "global" else "'mixture'"
            raise UserError(f"model.adapter: pfedsam has nothing to train in its {stage} stage; add {mend}")
        kept = without_prefix("optimiser", work.private) if stage == "local" else work.kept_moments()
        return work.trainer(names, steps, kept)

    def _interleave(self, work: Work, shared: Trainer, local: Trainer, received: State, teacher: State | None) -> None:
        """A step of each stage in turn, on the same batch while both last."""
        outer, inner = self._global_objective(work, received), self._local_objective(work, teacher)
        for index, batch in enumerate(work.batches(max(shared.steps, local.steps), "interleaved")):
            if index < shared.steps:
                shared.step(batch, outer)
            if index < local.steps:
                local.step(batch, inner)

    def _global_objective(self, work: Work, received: State) -> Callable[[Batch], Tensor]:
        """L_seg of the shared part; with the options, a pull to phi^t and to the personal model's masks."""
        mine = take(work.model, self.personal_names(work.live))
        path: Which = "global" if self.options.global_stage_moe == "bypass" else "personal"

        def objective(batch: Batch) -> Tensor:
            self.use(work.model, path)
            logits = work.model(batch.images)
            loss = self.segmentation(work, logits, batch)
            if self.options.prox_weight:
                own = dict(work.model.named_parameters())
                moved = {name: own[name] - start.to(own[name]) for name, start in received.items()}
                loss = loss + self.options.prox_weight / 2 * squared_norm(moved)
            if self.options.kd_direction in ("local_to_global", "mutual"):
                teacher = self._teach(work, received | mine, batch, "personal")
                loss = loss + self._distil(work, logits, teacher, batch)
            return loss

        return objective

    def _local_objective(self, work: Work, teacher: State | None) -> Callable[[Batch], Tensor]:
        """L_seg of the personal model, distilled from the shared one, plus the routers' balance."""

        def objective(batch: Batch) -> Tensor:
            self.use(work.model, "personal")
            logits = work.model(batch.images)
            loss = self.segmentation(work, logits, batch) + self.options.balance_weight * _balance(work.model)
            if self.options.kd_direction in ("global_to_local", "mutual"):
                loss = loss + self._distil(work, logits, self._teach(work, teacher or {}, batch, "global"), batch)
            return loss

        return objective

    def _teach(self, work: Work, state: State, batch: Batch, which: Which) -> Tensor:
        """Logits of the model with `state` in place of its own tensors, without a gradient."""
        self.use(work.model, which)
        on_device = {name: tensor.to(batch.images.device) for name, tensor in state.items()}
        with torch.no_grad():
            logits: Tensor = functional_call(work.model, on_device, (batch.images,))
        return logits

    def _distil(self, work: Work, student: Tensor, teacher: Tensor, batch: Batch) -> Tensor:
        weight = kd_weight(self.options.kd_weight, work.order.round / max(1, work.training.rounds))
        return weight * distillation_loss(student, teacher, batch.valid, self.options.kd_temperature)

    def _teacher(self, received: State, ema: State) -> State | None:
        """The shared tensors that teach the experts; None: those in the model, whatever they are by then."""
        return {"received": received, "trained": None, "ema": ema}[self.options.kd_teacher]

    def _ema(self, work: Work, received: State) -> State:
        """The running average of the received shared tensors; empty unless it is the teacher."""
        if self.options.kd_teacher != "ema":
            return {}
        before = without_prefix("ema", work.private) or received
        decay = self.options.ema_decay
        return {name: decay * before[name] + (1 - decay) * tensor for name, tensor in received.items()}


def global_steps(steps: int, share: float) -> int:
    """Steps of the global stage out of a round's: the share, half rounded up, and no stage with a share left empty."""
    wanted = int(steps * share + 0.5)
    return min(max(wanted, 1), steps - 1) if 0 < share < 1 and steps > 1 else wanted


def kd_weight(peak: float, progress: float) -> float:
    """lambda at `progress` in [0, 1): linear to `peak` over the first tenth, then a cosine to a fifth of it."""
    if progress < 0.1:
        return peak * (progress / 0.1)
    return peak * (0.2 + 0.8 * 0.5 * (1 + cos(pi * (progress - 0.1) / 0.9)))


def _balance(model: torch.nn.Module) -> Tensor:
    """Sum of the routers' balance losses of the last forward pass; zero where routing is dense."""
    losses = [b for m in model.modules() if isinstance(b := getattr(m, "balance", None), Tensor)]
    return torch.stack(losses).sum() if losses else torch.zeros(())


def _is_decoder(name: str) -> bool:
    return not name.startswith("vision_encoder.")
