"""FedDPA: a shared and a private pair of low-rank factors, whose outputs are mixed at use.

    h = W u + (1 - a) s B A u + a s B_k A_k u        (A, B) travel, (A_k, B_k) stay; the global model has a = 0

    alternate (FedDPA-T), each round     (A_k, B_k) <- argmin F_k(mixed),  what was received frozen
                                         (A, B)     <- argmin F_k(global), the private pair out of the path
    after (FedDPA-F)                     rounds are FedAvg's; (A_k, B_k) is trained once, after the last aggregation

Yang et al., NeurIPS 2024, 2403.19211; a = 1/2 and the order of the two stages are the published code's. A private pair
that was never trained equals the shared one, so that the mixed model is then the global one. The paper's weight a that
depends on the image (half the mean cosine of its embedding to those of a few training images) is left out: it needs
those embeddings wherever the model is used. The paper is on language models; the mask decoder is ours, trained and
shared with (A, B) unless `decoder` says otherwise. A round's steps are parted between its two stages.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import nn

from sammit.config import Experiment
from sammit.errors import UserError
from sammit.learning.loop import Trainer, fit
from sammit.methods import base
from sammit.methods.aggregators.factors import down_of, pairs
from sammit.methods.base import Outcome, Which, Work
from sammit.methods.heads import in_body
from sammit.methods.stages import first_steps
from sammit.methods.state import has_component, set_active, set_weight, with_prefix, without_prefix
from sammit.vocabulary import AnyState, Declared, State

PAPER = "Yang et al. 2024 (2403.19211)"
TRAVELS = "the shared low-rank factors and the mask decoder"
STAYS = "the private low-rank factors and their optimiser's moments"

SHARED, OWN = "lora", "own_lora"


@dataclass(frozen=True)
class Options(base.Options):
    """`[method]` of feddpa."""

    schedule: Literal["alternate", "after"] = "alternate"  # FedDPA-T, FedDPA-F
    own_weight: float = 0.5  # a, the private factors' share in the mix
    own_share: float = 0.5  # alternate: share of a round's steps on the private factors; both get one of two
    final_local_epochs: float = 1.0  # after: training of the private factors, in rounds' worth of steps
    decoder: Literal["full", "frozen", "local"] = "full"  # trained and sent, kept as it is, or trained and kept

    def check(self) -> None:
        """Raise UserError where a value cannot be right."""
        if not (0 <= self.own_weight <= 1 and 0 <= self.own_share <= 1):
            raise UserError("method: own_weight and own_share must be between 0 and 1")
        if not self.final_local_epochs > 0:
            raise UserError("method.final_local_epochs: must be above 0")


class Method(base.Method):
    """Two pairs of factors, one of which travels."""

    adapters: ClassVar[tuple[str, ...]] = (SHARED, OWN)
    judged: ClassVar[tuple[Which, ...]] = ("global", "personal")
    reported: ClassVar[Which] = "personal"
    unseen_rule: ClassVar[str] = "the global model: the shared factors alone, at full weight"
    site_state: ClassVar[tuple[Declared, ...]] = (
        *base.Method.site_state,
        Declared("copied", (), "int64", "1 while this site's private factors are a copy of the shared ones"),
    )
    options: Options

    def __init__(self, options: Options | None = None) -> None:
        super().__init__(options or Options())
        self.options.check()

    def plan(self, experiment: Experiment, surveys: Mapping[str, State]) -> tuple[Experiment, State]:
        """The experiment as it is.

        Raises:
            UserError: shared factors without private ones beside them, or of another shape: private ones start there.
        """
        model = experiment.model
        for shared in ("lora", "decoder_lora"):
            own = f"own_{shared}"
            if (shared in model.adapter) != (own in model.adapter):
                raise UserError(f"model.adapter: feddpa has '{shared}' and '{own}' side by side; add both or neither")
            shapes = [[model.options.get(name, {}).get(key) for key in ("rank", "alpha")] for name in (shared, own)]
            if shapes[0] != shapes[1]:
                raise UserError(f"[model.{own}]: needs rank and alpha of [model.{shared}], which it starts from")
        return experiment, {}

    def trains(self, name: str) -> bool:
        """Everything live, but not a frozen decoder."""
        return self.options.decoder != "frozen" or in_body(name)

    def shares(self, name: str) -> bool:
        """All but the private factors; the decoder stays too where it is local."""
        if has_component(name, OWN):
            return False
        return self.options.decoder != "local" or in_body(name)

    def use(self, model: nn.Module, which: Which) -> None:
        """Global: the shared factors alone. Personal: both, weighted by 1 - a and a."""
        own = self.options.own_weight if which == "personal" else 0.0
        set_active(model, OWN, which == "personal")
        set_weight(model, OWN, own)
        set_weight(model, SHARED, 1 - own)

    def personal(self, private: State, shared: AnyState) -> State:
        """What the site keeps; private factors that were never trained are the shared ones."""
        kept = super().personal(private, shared)
        if not _are_copies(private):
            return kept
        whole = [name for up in pairs(shared) for name in (up, down_of(up))]  # FFA-LoRA sends one factor alone
        return {**kept, **{_own_name(name): shared[name] for name in whole}}

    def notes(self) -> tuple[str, ...]:
        """When the private factors were trained, and what of the paper is left out."""
        when = {
            "alternate": "The private factors were trained in every round, and not again after the last aggregation.",
            "after": "The private factors were trained once, after the last aggregation, for "
            f"{self.options.final_local_epochs:g} rounds' worth of local steps.",
        }
        left_out = f"They weigh {self.options.own_weight:g} for every image; FedDPA's weight by image is left out."
        return when[self.options.schedule], left_out

    def train(self, work: Work) -> Outcome:
        """The private stage, where the schedule has one, then the shared stage."""
        alternate = self.options.schedule == "alternate"
        own_steps = first_steps(work.steps, self.options.own_share) if alternate else 0
        own = self._own_trainer(work, own_steps)
        self.use(work.model, "personal")
        fit(own, work.batches(own_steps, "own"), self.objective(work))
        shared = work.trainer(self.shared_names(work.live), work.steps - own_steps, work.kept_moments())
        self.use(work.model, "global")
        fit(shared, work.batches(shared.steps, "shared"), self.objective(work))
        self.use(work.model, "personal")
        private = self._private(work, own)
        if work.training.optimiser_state == "keep":
            private |= with_prefix("optimiser", shared.optimiser_state())
        steps = own.done + shared.done
        return Outcome(private, {}, {"loss": (own.total + shared.total).item() / max(1, steps), "steps": steps})

    def finish(self, work: Work) -> Outcome | None:
        """FedDPA-F's stage, with the schedule of a whole run to itself."""
        if self.options.schedule != "after":
            return None
        own = self._own_trainer(work.alone(), max(1, round(work.steps * self.options.final_local_epochs)))
        self.use(work.model, "personal")
        fit(own, work.batches(own.steps, "final"), self.objective(work))
        return Outcome(self._private(work, own), {}, {"loss": own.mean_loss, "steps": own.done})

    def _own_trainer(self, work: Work, steps: int) -> Trainer:
        """A trainer for what stays, whose moments are always kept."""
        return work.trainer(self.personal_names(work.live), steps, without_prefix("optimiser", work.private))

    def _private(self, work: Work, own: Trainer) -> State:
        """The moments of what stays, and whether it was never trained."""
        copied = {"copied": torch.tensor(1)} if not own.done and _are_copies(work.private) else {}
        return with_prefix("optimiser", own.optimiser_state()) | copied


def _are_copies(private: State) -> bool:
    """Whether a site's private factors were never trained."""
    return "copied" in private or not any(has_component(name, OWN) for name in private)


def _own_name(shared: str) -> str:
    """The private factor beside a shared one."""
    return ".".join(OWN if part == SHARED else part for part in shared.split("."))
