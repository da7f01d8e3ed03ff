"""pFedSAM: a shared low-rank part, a local mixture of experts, and distillation between the two.

Wang et al., 2509.15638. The body of the paper was not available when this was written: this is a reconstruction from
its abstract. Every choice the abstract leaves open is an option below, in `pfedsam_objectives` (what the stages
minimise) or of the mixture itself; none of its numbers is claimed.

phi: what travels (low-rank factors and decoder; with `shared = "full"` the whole network). psi_k: the experts of site
k, which never leave it. One round at site k, E the share of steps given to each stage:

    receive phi^t
    global stage   phi_k <- argmin L_seg(f(x; phi)),                              experts bypassed
    local stage    psi_k <- argmin L_seg(f(x; phi_k, psi)) + lambda(t) KD + beta L_balance + gamma L_orth,  phi_k frozen
    send phi_k, n_k;      server: phi^{t+1} = sum_k (n_k / n) phi_k

KD is the tempered Bernoulli divergence from the teacher's logits (learning.losses.distillation_loss). lambda rises
linearly over the first tenth of the rounds and falls with a cosine to a fifth of itself. With `kd_direction = "mutual"`
and `stage_order = "interleaved"` both teach on each batch, as in FedDAT (2308.12305).

`decoder = "lora"` trains and sends low-rank factors on q and v of the decoder's attentions (adapter "decoder_lora")
and its head, that is the hypernetworks and what refines or mixes their maps; all else of the decoder is as it was.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch

from sammit.errors import UserError
from sammit.learning.loop import Objective, Trainer, fit
from sammit.methods import base
from sammit.methods.base import Judged, Outcome, Train, Which, Work
from sammit.methods.heads import in_body, in_head
from sammit.methods.pfedsam_objectives import EXPERTS, Objectives, Terms
from sammit.methods.stages import first_steps
from sammit.methods.state import copied, has_component, set_active, take, with_prefix, without_prefix
from sammit.vocabulary import AnyState, Batch, Declared, State, is_adapter

PAPER = "Wang et al. 2025 (2509.15638), a reconstruction from its abstract"
TRAVELS = "low-rank factors and mask decoder (shared = lora), or the whole network (shared = full)"
STAYS = "the mixture of experts with its router, and their optimiser's moments"


@dataclass(frozen=True)
class Options(Terms):
    """`[method]` of pfedsam, beside the terms' weights."""

    shared: Literal["lora", "full"] = "lora"  # full: the encoder is trained and travels too
    decoder: Literal["full", "lora", "frozen", "local"] = "full"  # trained and sent, whole or low-rank; or kept
    global_share: float = 0.5  # share of a round's steps in the global stage; both get one where there are two
    stage_order: Literal["global_local", "local_global", "interleaved"] = "global_local"  # interleaved: batch by batch
    kd_teacher: Literal["received", "trained", "ema"] = "received"  # phi^t, phi_k after its stage, or its average
    ema_decay: float = 0.9  # of the "ema" teacher, a round
    final_local_epochs: float = 1.0  # local stage after the last aggregation, in rounds' worth of local steps; 0: none
    final_stage: Literal["experts", "all"] = "experts"  # all: it tunes a copy of the shared part too, which stays

    def check(self) -> None:
        """Raise UserError where a value cannot be right."""
        super().check()
        if not 0 <= self.global_share <= 1:
            raise UserError("method.global_share: must be between 0 and 1")
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
    options: Options

    def __init__(self, options: Options | None = None) -> None:
        super().__init__(options or Options())
        self.options.check()

    @property
    def train_default(self) -> Train:  # type: ignore[override]
        """`shared = "full"` trains the encoder as well."""
        return "all" if self.options.shared == "full" else "adapters"

    @property
    def adapters(self) -> tuple[str, ...]:  # type: ignore[override]
        """The decoder's factors, and both of what is to be orthogonal, where the options speak of them."""
        both = ("lora", EXPERTS) if self.options.orth_weight else ()
        return (*both, "decoder_lora") if self.options.decoder == "lora" else both

    @property
    def site_state(self) -> tuple[Declared, ...]:  # type: ignore[override]
        """Moments, and the "ema" teacher and a copy of the shared part if these are chosen."""
        moments = Declared("optimiser.", None, "float32", "the experts' moments; the shared part's where they are kept")
        ema = Declared("ema.", None, "float32", "running average of the shared tensors, the 'ema' teacher")
        own = Declared("own.", None, "float32", "this site's copy of the shared tensors, tuned in the last local stage")
        chosen = (moments, ema) if self.options.kd_teacher == "ema" else (moments,)
        return (*chosen, own) if self.options.final_stage == "all" else chosen

    def trains(self, name: str) -> bool:
        """Everything live; of a low-rank decoder its factors and head, of a frozen one nothing."""
        if in_body(name) or self.options.decoder in ("full", "local"):
            return True
        return self.options.decoder == "lora" and (is_adapter(name) or in_head(name, "output"))

    def shares(self, name: str) -> bool:
        """All but the experts; the decoder stays too where it is local."""
        if has_component(name, EXPERTS):
            return False
        return self.options.decoder != "local" or in_body(name)

    def personal(self, private: State, shared: AnyState) -> State:
        """The experts, and the site's tuned copy of the shared part where there is one."""
        return without_prefix("own", private) | super().personal(private, shared)

    def use(self, model: torch.nn.Module, which: Which) -> None:
        """The global model is the shared part with the experts bypassed."""
        set_active(model, EXPERTS, which == "personal")

    def notes(self) -> tuple[str, ...]:
        """That this is a reconstruction, and whether experts were trained once more after the last aggregation."""
        rounds = self.options.final_local_epochs
        what = {
            "experts": "its experts once more, with the shared part frozen,",
            "all": "its experts and a copy of the shared part, which stays there,",
        }[self.options.final_stage]
        last = (
            f"After the last aggregation each site trained {what} for {rounds:g} rounds' worth of local steps."
            if rounds
            else "Experts were not trained again after the last aggregation."
        )
        return "This pFedSAM is a reconstruction from the paper's abstract.", last

    def train(self, work: Work) -> Outcome:
        """Global and local stage in the order of the options; both stages together take the round's steps."""
        received = copied(work.order.tensors)
        ema = self._ema(work, received)
        teacher = self._teacher(received, ema)
        objectives = Objectives(self, self.options, work)
        shared_steps = first_steps(work.steps, self.options.global_share)
        shared = self._trainer(work, "global", shared_steps)
        local = self._trainer(work, "local", work.steps - shared_steps)
        stages = {
            "global": lambda: fit(shared, work.batches(shared.steps, "global"), objectives.shared(received)),
            "local": lambda: fit(local, work.batches(local.steps, "local"), objectives.personal(teacher)),
        }
        if self.options.stage_order == "interleaved":
            both = (shared, objectives.shared(received)), (local, objectives.personal(teacher))
            _interleave(both, work.batches(max(shared.steps, local.steps), "interleaved"))
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

        With `final_stage = "all"` a copy of the shared tensors is tuned with them and stays at the site. The stage has
        the schedule of a whole run to itself: the rounds' own has come to an end by then.
        """
        local = work.steps - first_steps(work.steps, self.options.global_share)
        steps = round(local * self.options.final_local_epochs)
        if not steps:
            return None
        whole = self.options.final_stage == "all"
        done = self._last(work, "last" if whole else "local", steps, "final")
        own = take(work.model, self.shared_names(work.live)) if whole else {}
        return replace(done, private=done.private | with_prefix("own", own))

    def join(self, work: Work) -> Outcome:
        """A new site's experts: a local stage alone, taught by the shared part, which stays as it is."""
        return self._last(work, "local", work.steps, "join")

    def _last(self, work: Work, stage: Literal["local", "last"], steps: int, draws: str) -> Outcome:
        """A stage after the rounds; `draws` keys its batches."""
        trainer = self._trainer(work.alone(), stage, steps)
        received = copied(work.order.tensors)
        objectives = Objectives(self, self.options, work)
        teacher = self._teacher(received, self._ema(work, received))
        fit(trainer, work.batches(steps, draws), objectives.personal(teacher))
        self.use(work.model, "personal")
        private = with_prefix("optimiser", trainer.optimiser_state())
        return Outcome(private, {}, {"loss": trainer.mean_loss, "steps": trainer.done})

    def _trainer(self, work: Work, stage: Literal["global", "local", "last"], steps: int) -> Trainer:
        """A stage's trainer; the experts' moments are always kept, the shared part's where the recipe says so."""
        shared, personal = self.shared_names(work.live), self.personal_names(work.live)
        names = {"global": shared, "local": personal, "last": shared + personal}[stage]
        if steps and not names:
            mend = "'lora'" if stage == "global" else "'mixture'"
            raise UserError(f"model.adapter: pfedsam has nothing to train in its {stage} stage; add {mend}")
        kept = work.kept_moments() if stage == "global" else without_prefix("optimiser", work.private)
        return work.trainer(names, steps, kept)

    def _teacher(self, received: State, ema: State) -> State:
        """The shared tensors that teach the experts; empty: those in the model, whatever they are by then."""
        return {"received": received, "trained": {}, "ema": ema}[self.options.kd_teacher]

    def _ema(self, work: Work, received: State) -> State:
        """The running average of the received shared tensors; empty unless it is the teacher."""
        if self.options.kd_teacher != "ema":
            return {}
        before = without_prefix("ema", work.private) or received
        decay = self.options.ema_decay
        return {name: decay * before[name] + (1 - decay) * tensor for name, tensor in received.items()}


def _interleave(stages: Iterable[tuple[Trainer, Objective]], batches: Iterable[Batch]) -> None:
    """A step of each stage in turn, on the same batch while both last."""
    for index, batch in enumerate(batches):
        for trainer, objective in stages:
            if index < trainer.steps:
                trainer.step(batch, objective)
