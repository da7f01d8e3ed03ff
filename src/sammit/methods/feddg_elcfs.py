"""FedDG-ELCFS: sites train on their images in each other's low-frequency look, one step ahead.

Once, before the model is built, site k tells amplitudes of some training images, and is sent the other sites':

    bank_k   = { |F(x)| in the centred square of half-size b }     F: a channel's spectrum,  b = floor(band min(H, W))

For each image x a batch draws an amplitude A' of another site and lambda ~ U(0, 1), keeps x's own phases, and steps on

    |F(x^)|  = (1 - lambda) |F(x)| + lambda A'   in the square,  x^ clipped to [0, 1]
    theta'   = theta - inner_lr clip( grad L_Dice(theta; x), +-100 )
    L        = L_Dice(theta; x) + L_seg(theta'; x^) + contrast_weight sum_structures NT-Xent(boundary, background)

with NT-Xent (`contrast.py`) on mean features of x under theta and of x^ under theta'. The server averages by n_k.

Only the square leaves a site, since nothing else can ever be swapped: (2 b + 1)^2 numbers a channel and image, 108
numbers for four images of 128 pixels instead of 196,608, and without phases nothing that says where anything is. It
does tell each such image's mean colour and coarse contrast. Images are those that training sees, augmented.

Liu et al., 2103.06030. The paper interpolates; the released code calls its transform with L = 0 and swaps the one
amplitude at frequency 0 (`lambda` is commented out), and tells whole spectra. As there, the gradient for theta' is
not differentiated again (`order = "second"` does). Here, in the style of the paper: the outer L_seg is the recipe's
(theirs is Dice alone), as are optimiser and schedule; features are Segment Anything's refined mask embedding, or what
the U-Net's last level is given; a structure without one of its bands in an image is left out of the contrast.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from sammit.config import Experiment
from sammit.errors import UserError
from sammit.learning.losses import segmentation_loss
from sammit.methods import base
from sammit.methods.base import Outcome, Server, Work
from sammit.methods.contrast import boundary_contrast
from sammit.methods.features import LAST_FEATURES, first_module, watched
from sammit.methods.spectra import half_size, low_amplitudes, restyled
from sammit.methods.state import with_prefix
from sammit.randomness import generator
from sammit.vocabulary import AnyState, Batch, Declared, SiteData, State

PAPER = "Liu et al. 2021 (FedDG, 2103.06030)"
TRAVELS = "every trained tensor; once, low-frequency amplitudes of some training images, which the other sites are sent"
STAYS = "nothing but the optimiser's moments, where they are kept"

BANK = "amplitude.bank"
SHAPE = (-1, 3, -1, -1)  # images, channels, 2 b + 1, 2 b + 1
TEMPERATURE = 0.05
CLIP = 100.0


@dataclass(frozen=True)
class Options(base.Options):
    """`[method]` of feddg_elcfs."""

    images: int = 4  # training images whose amplitudes a site tells
    band: float = 0.01  # half-size of the square as a share of the image's side; at least one frequency
    inner_lr: float = 1e-3  # rate of the step to theta'
    order: Literal["first", "second"] = "first"  # second: the gradient of theta' itself is differentiated too
    contrast_weight: float = 0.1  # 0: no contrast

    def check(self) -> None:
        """Raise UserError where a value cannot be right."""
        if self.images < 1 or not 0 < self.band <= 0.5:
            raise UserError("method: images must be at least 1, band above 0 and at most 0.5")
        if not self.inner_lr >= 0 or not self.contrast_weight >= 0:
            raise UserError("method: inner_lr and contrast_weight must not be below 0")


class Method(base.Method):
    """Both halves of FedDG-ELCFS."""

    surveyed: ClassVar[tuple[Declared, ...]] = (
        Declared(BANK, SHAPE, "float32", "low-frequency amplitudes of some training images, no phases"),
    )
    extras_down: ClassVar[tuple[Declared, ...]] = (
        Declared(BANK, SHAPE, "float32", "the other sites' low-frequency amplitudes"),
    )
    server_state: ClassVar[tuple[Declared, ...]] = (
        Declared("amplitude.", SHAPE, "float32", "each site's low-frequency amplitudes"),
    )
    options: Options

    def __init__(self, options: Options | None = None) -> None:
        super().__init__(options or Options())
        self.options.check()

    def survey(self, site: SiteData) -> State:
        """{BANK: (images, 3, 2 b + 1, 2 b + 1)} of training images as the model sees them."""
        drawn = site.batches(self.options.images, 1, ("feddg_elcfs", site.name, "spectra"))
        images = torch.cat([batch.images for batch in drawn])
        return {BANK: low_amplitudes(images, half_size(self.options.band, (images.shape[-2], images.shape[-1])))}

    def plan(self, experiment: Experiment, surveys: Mapping[str, State]) -> tuple[Experiment, State]:
        """The sites' banks are the server's memory."""
        return experiment, with_prefix("amplitude", {site: survey[BANK] for site, survey in surveys.items()})

    def orders(self, server: Server, site: str) -> tuple[AnyState, State]:
        """The others' amplitudes in one bank, unnamed, with every order, which a site that restarts can carry out."""
        others = [bank for name, bank in server.memory.items() if name != f"amplitude.{site}"]
        return server.shared, {BANK: torch.cat(others)} if others else {}

    def train(self, work: Work) -> Outcome:
        """An episode a step."""
        trainer = work.trainer(work.live, work.steps, work.kept_moments())
        for step, batch in enumerate(work.batches(work.steps, "train")):
            trainer.step(batch, self._episode(work, self._look_of_others(work, batch.images, step)))
        kept = trainer.optimiser_state() if work.training.optimiser_state == "keep" else {}
        return Outcome(with_prefix("optimiser", kept), {}, {"loss": trainer.mean_loss, "steps": trainer.done})

    def _look_of_others(self, work: Work, images: Tensor, step: int) -> Tensor:
        """(B, 3, H, W) -> the same in the look of other sites; a federation of one site has no other look."""
        bank = work.order.extras.get(BANK)
        if bank is None:
            return images
        rng = generator(work.seed, work.site.name, work.order.round, "amplitudes", step)
        chosen = torch.from_numpy(rng.integers(len(bank), size=len(images)))
        share = torch.from_numpy(rng.random((len(images), 1, 1, 1), dtype="float32"))
        return restyled(images, bank[chosen], share)

    def _episode(self, work: Work, looks: Tensor) -> Callable[[Batch], Tensor]:
        """The loss of a batch whose images have the given looks (B, 3, H, W) for the outer step."""
        weight, place = self.options.contrast_weight, first_module(work.model, LAST_FEATURES)
        if weight and place is None:
            raise UserError("method.contrast_weight: the model has no map of features known here; set it to 0")

        def objective(batch: Batch) -> Tensor:
            with self._differentiable(), watched(place or nn.Identity()) as seen:
                inner = self.inner(work, work.model(*batch.inputs), batch)
                ahead = self._ahead(work, inner)
                outer = self.segmentation(work, functional_call(work.model, ahead, (looks.to(batch.images),)), batch)
            if weight:
                outer = outer + weight * boundary_contrast([said for _, said in seen], batch, TEMPERATURE)
            return inner + outer

        return objective

    def inner(self, work: Work, logits: Tensor, batch: Batch) -> Tensor:
        """What the step to theta' goes down: 1 - Dice of (B, C, h, w) logits."""
        return segmentation_loss(logits, batch, 1.0, 0.0)

    def _ahead(self, work: Work, inner: Tensor) -> dict[str, Tensor]:
        """theta', through which gradients reach theta."""
        own = dict(work.model.named_parameters())
        live = [own[name] for name in work.live]
        again = self.options.order == "second"
        steps = torch.autograd.grad(inner, live, retain_graph=True, create_graph=again, allow_unused=True)
        return {
            name: tensor if step is None else tensor - self.options.inner_lr * step.clamp(-CLIP, CLIP)
            for name, tensor, step in zip(work.live, live, steps, strict=True)
        }

    def _differentiable(self) -> AbstractContextManager[None]:
        """Fused attention has no second derivative; the plain one has."""
        return sdpa_kernel(SDPBackend.MATH) if self.options.order == "second" else nullcontext()
