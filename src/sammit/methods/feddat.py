"""FedDAT: a shared and a private bottleneck adapter that teach each other.

    combined(h) = 1/2 A_0(h) + 1/2 A_2(h)      A_0 private, A_1 shared, A_2 the frozen copy of A_1 as it was received

    for each batch   shared step    A_1 <- 1/2 [ L(f(x; A_1)) + KL(f(x; A_1) from f(x; combined)) ]
                     private step   A_0 <- 1/2 [ L(f(x; combined)) + KL(f(x; combined) from f(x; A_1)) ]

Chen et al., AAAI 2024, 2308.12305. A teacher's logits carry no gradient; A_1's in the private step are those that its
own step began with, as in the published code. KL is that of each pixel's tempered Bernoulli averaged over pixels
(learning.losses.distillation_loss); a sum over pixels would drown L. The model that a site uses mixes A_0 with the
aggregated A_1. The paper is on vision and language; the mask decoder is ours: trained in the shared step and sent,
unless `decoder` says otherwise, and every model runs with the decoder as it is by then, so that A_2 alone is frozen. A
batch's two steps are two of the round's, and an odd one goes to the shared part. Cost: a third forward pass a batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call

from sammit.errors import UserError
from sammit.learning.loop import Objective
from sammit.learning.losses import distillation_loss
from sammit.methods import base
from sammit.methods.base import Outcome, Which, Work
from sammit.methods.heads import in_body
from sammit.methods.state import has_component, select, set_active, set_weight, with_prefix, without_prefix
from sammit.vocabulary import Batch

PAPER = "Chen et al. 2024 (2308.12305)"
TRAVELS = "the shared bottleneck adapters and the mask decoder"
STAYS = "the private bottleneck adapters and their optimiser's moments"

SHARED, OWN = "bottleneck", "own_bottleneck"


@dataclass(frozen=True)
class Options(base.Options):
    """`[method]` of feddat."""

    own_weight: float = 0.5  # of the private adapter in the combined model; the rest is the shared one's
    kd_temperature: float = 3.0  # of the distillation between the two
    decoder: Literal["full", "frozen", "local"] = "full"  # trained and sent, kept as it is, or trained and kept

    def check(self) -> None:
        """Raise UserError where a value cannot be right."""
        if not 0 <= self.own_weight <= 1 or not self.kd_temperature > 0:
            raise UserError("method: own_weight must be between 0 and 1, kd_temperature above 0")


class Method(base.Method):
    """A shared and a private step on every batch."""

    adapters: ClassVar[tuple[str, ...]] = (SHARED, OWN)
    judged: ClassVar[tuple[Which, ...]] = ("global", "personal")
    reported: ClassVar[Which] = "personal"
    unseen_rule: ClassVar[str] = "the global model: the shared adapters alone, at full weight"
    options: Options

    def __init__(self, options: Options | None = None) -> None:
        super().__init__(options or Options())
        self.options.check()

    def trains(self, name: str) -> bool:
        """Everything live, but not a frozen decoder."""
        return self.options.decoder != "frozen" or in_body(name)

    def shares(self, name: str) -> bool:
        """All but the private adapters; the decoder stays too where it is local."""
        if has_component(name, OWN):
            return False
        return self.options.decoder != "local" or in_body(name)

    def use(self, model: nn.Module, which: Which) -> None:
        """Global: the shared adapters alone. Personal: both, weighted."""
        own = self.options.own_weight if which == "personal" else 0.0
        set_active(model, OWN, which == "personal")
        set_weight(model, OWN, own)
        set_weight(model, SHARED, 1 - own)

    def train(self, work: Work) -> Outcome:
        """A shared and a private step in turn, on the same batch."""
        own_steps = work.steps // 2
        shared = work.trainer(self.shared_names(work.live), work.steps - own_steps, work.kept_moments())
        kept = without_prefix("optimiser", work.private)
        own = work.trainer(self.personal_names(work.live), own_steps, kept)
        shared_step, own_step = self._objectives(work)
        for index, batch in enumerate(work.batches(shared.steps, "train")):
            shared.step(batch, shared_step)
            if index < own.steps:
                own.step(batch, own_step)
        self.use(work.model, "personal")
        moments = own.optimiser_state()
        if work.training.optimiser_state == "keep":
            moments |= shared.optimiser_state()
        steps = shared.done + own.done
        metrics = {"loss": (shared.total + own.total).item() / steps, "steps": steps}
        return Outcome(with_prefix("optimiser", moments), {}, metrics)

    def _objectives(self, work: Work) -> tuple[Objective, Objective]:
        """The losses of the shared and of the private step; the second is taught by what the first said."""
        frozen = select(work.order.tensors, lambda name: has_component(name, SHARED))
        frozen = {name: tensor.to(work.training.device, copy=True) for name, tensor in frozen.items()}
        said: dict[str, Tensor] = {}

        def combined(batch: Batch) -> Tensor:
            self.use(work.model, "personal")
            logits: Tensor = functional_call(work.model, frozen, batch.inputs)
            return logits

        def taught(logits: Tensor, teacher: Tensor, batch: Batch) -> Tensor:
            distance = distillation_loss(logits, teacher, batch.valid, self.options.kd_temperature)
            return (self.segmentation(work, logits, batch) + distance) / 2

        def shared_step(batch: Batch) -> Tensor:
            with torch.no_grad():
                teacher = combined(batch)
            self.use(work.model, "global")
            logits = work.model(*batch.inputs)
            said["shared"] = logits.detach()
            return taught(logits, teacher, batch)

        def own_step(batch: Batch) -> Tensor:
            return taught(combined(batch), said["shared"], batch)

        return shared_step, own_step
