"""FedICRA: sites that label in different ways; channel attention that knows the site, and adaptive starts.

In the style of Lin et al., 2304.05635. L_ce is the cross-entropy of labelled pixels, heat_k the channel attention of
the encoder's last block under the code of site k (`[model.condition]`), computed from the same features:

    L_k = L_ce + 0.1 L_crf + 0.1 L_tree - alpha mean_{j != k} || heat_k - stopgrad(heat_j) ||^2 / D
    start    the decoder is mixed element by element from the site's own and the received (methods/adaptive.py)
    head     the share `head_share` of the steps on L_k: the decoder's output alone
    body     the others: everything else
    server   w^{t+1} = sum_k (n_k / n) w_k;  codes are not averaged but passed on: each site is sent the others'

L_crf and L_tree are in learning/crf.py and learning/trees.py. The loss that adapts the start is L_ce alone.

What differs from the published code, which has a U-Net and softmax:
- A structure is a sigmoid, so L_ce is binary cross-entropy, and the two other losses are means over structures.
- Of the tree energy loss there is the tree of colours, at one scale; trees of features at three scales are left out.
- Other sites' heat comes from this site's features, at no cost; theirs takes a pass through the network for each site.
- A site's code is its own; there it is a row of a shared table, which the average mixes with stale copies. In the
  released file the attention layers are in a plain list, so that they are neither trained nor sent.
- Its test for kept weights asks for a name that is never set, so that weights start at one each round, and it mixes the
  other way round. FedALA's definition is followed here; there is nothing to skip but the first round.
- Of 5 to 20 steps all but three train the output alone; here it is a share.
Learning the start costs a forward pass for each batch of `data_share` of a pass, and is no optimiser step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from sammit.errors import UserError
from sammit.learning.crf import gated_crf_loss
from sammit.learning.loop import fit
from sammit.learning.losses import segmentation_loss
from sammit.learning.trees import tree_energy_loss
from sammit.methods import adaptive, base
from sammit.methods.base import Outcome, Server, Which, Work
from sammit.methods.heads import in_body, in_head
from sammit.methods.stages import first_steps
from sammit.methods.state import put, take, with_prefix, without_prefix
from sammit.randomness import generator
from sammit.vocabulary import AnyState, Batch, Declared, State, Update

PAPER = "Lin et al. 2023 (2304.05635), in its style"
TRAVELS = "every trained tensor but the codes; the last block's code, on to the other sites"
STAYS = "codes of the other blocks; weights of the adaptive start, one for each element of the decoder"

CONDITION = "condition"


@dataclass(frozen=True)
class Options(adaptive.Options):
    """`[method]` of fedicra."""

    supervision: Literal["cross_entropy", "recipe"] = "cross_entropy"  # of labelled pixels; recipe: [training]'s loss
    crf_weight: float = 0.1  # of the gated CRF in the loss
    crf_radius: int = 5  # pixels of a grid of at most 64 x 64
    crf_xy: float = 6.0  # likewise
    crf_rgb: float = 0.1  # intensities
    tree_weight: float = 0.1  # of the tree energy in the loss
    tree_sigma: float = 0.02  # squared difference of colours
    contrast_weight: float = 0.5  # alpha
    head_share: float = 0.5  # of a round's steps; both parts get one where there are two

    def check(self) -> None:
        """Raise UserError where a value cannot be right."""
        super().check()
        if not all(weight >= 0 for weight in (self.crf_weight, self.tree_weight, self.contrast_weight)):
            raise UserError("method: crf_weight, tree_weight and contrast_weight must not be below 0")
        if self.crf_radius < 1 or not all(sigma > 0 for sigma in (self.crf_xy, self.crf_rgb, self.tree_sigma)):
            raise UserError("method: crf_radius must be at least 1, crf_xy, crf_rgb and tree_sigma above 0")
        if not 0 <= self.head_share <= 1:
            raise UserError("method.head_share: must be between 0 and 1")


class Method(base.Method):
    """Both halves of FedICRA."""

    adapters: ClassVar[tuple[str, ...]] = (CONDITION,)
    judged: ClassVar[tuple[Which, ...]] = ("global", "personal")
    reported: ClassVar[Which] = "personal"
    unseen_rule: ClassVar[str] = "the global model with the code of no site"
    extras_up: ClassVar[tuple[Declared, ...]] = (
        Declared("code.", None, "float32", "the site's code of the last block, sent on to the others"),
    )
    extras_down: ClassVar[tuple[Declared, ...]] = (
        Declared("code.", None, "float32", "the other sites' codes, as they were sent"),
    )
    server_state: ClassVar[tuple[Declared, ...]] = (Declared("code.", None, "float32", "each site's code"),)
    site_state: ClassVar[tuple[Declared, ...]] = (*base.Method.site_state, *adaptive.KEPT)
    options: Options

    def __init__(self, options: Options | None = None) -> None:
        super().__init__(options or Options())
        self.options.check()

    def shares(self, name: str) -> bool:
        """All but the codes."""
        return not is_code(name)

    def starts_as_sent(self, name: str) -> bool:
        """The body; the decoder starts from the mixture."""
        return in_body(name)

    # At the site

    def train(self, work: Work) -> Outcome:
        """The adaptive start, the output's steps, everything else's; together the round's steps."""
        if not without_prefix("personal", work.private):
            put(work.model, first_codes(work))
        weights, _ = adaptive.learned(work, self.options, partial(self._supervised, work))
        put(work.model, adaptive.mixture(work.private, weights, work.order.tensors))
        steps = first_steps(work.steps, self.options.head_share)
        head = work.trainer([n for n in work.live if in_head(n, "output")], steps, work.kept_moments())
        rest = [n for n in work.live if not in_head(n, "output")]
        body = work.trainer(rest, work.steps - steps, work.kept_moments())
        for stage, trainer in (("head", head), ("body", body)):
            fit(trainer, work.batches(trainer.steps, stage), self.objective(work))
        own = take(work.model, [n for n in self.shared_names(work.live) if not in_body(n)])
        private = adaptive.kept(own, weights)
        if work.training.optimiser_state == "keep":
            private |= with_prefix("optimiser", head.optimiser_state() | body.optimiser_state())
        done = head.done + body.done
        metrics = {"loss": float(head.total + body.total) / max(1, done), "steps": done}
        code = _last_attention(work).code.detach().to("cpu", copy=True)
        return Outcome(private, {"code.own": code}, metrics)

    def objective(self, work: Work) -> Callable[[Batch], Tensor]:
        """L_k."""
        attention, others = _last_attention(work), list(work.order.extras.values())
        o = self.options

        def objective(batch: Batch) -> Tensor:
            logits = work.model(*batch.inputs)
            loss = self._supervised(work, logits, batch)
            if o.crf_weight:
                loss = loss + o.crf_weight * gated_crf_loss(logits, batch.images, o.crf_radius, o.crf_xy, o.crf_rgb)
            if o.tree_weight:
                loss = loss + o.tree_weight * tree_energy_loss(logits, batch.images, batch.valid, o.tree_sigma)
            if others and o.contrast_weight:
                loss = loss - o.contrast_weight * distance(attention, others)
            return loss

        return objective

    def _supervised(self, work: Work, logits: Tensor, batch: Batch) -> Tensor:
        if self.options.supervision == "recipe":
            return self.segmentation(work, logits, batch)
        return segmentation_loss(logits, batch, 0.0, 1.0, work.training.pos_weight)

    def finish(self, work: Work) -> Outcome | None:
        """Learn the mixture's weights for the model that the run leaves; no tensor of it is trained."""
        return adaptive.learned_last(work, self.options, partial(self._supervised, work))

    def personal(self, private: State, shared: AnyState) -> State:
        """The site's codes and the mixed decoder, with the weights that were learned last."""
        return adaptive.mixture(private, without_prefix("weights", private), shared)

    def notes(self) -> tuple[str, ...]:
        """That this is in its style, and that the weights are learned after the last aggregation too."""
        return "This FedICRA is in the style of the published one: docs/methods.md.", adaptive.NOTE

    # At the server

    def orders(self, server: Server, site: str) -> tuple[AnyState, State]:
        """The shared tensors, and the codes of the other sites without their names."""
        others = [code for name, code in sorted(server.memory.items()) if name != f"code.{site}"]
        return server.shared, {f"code.{index}": code for index, code in enumerate(others)}

    def aggregate(self, server: Server, updates: Iterable[Update]) -> Server:
        """The mean of what is shared; each site's code as it came."""
        codes = dict(server.memory)

        def noted() -> Iterator[Update]:
            for update in updates:
                codes.update((f"code.{update.site}", code) for code in update.extras.values())
                yield update

        return replace(super().aggregate(server, noted()), memory=codes)


def is_code(name: str) -> bool:
    """Whether a tensor is a site's code."""
    return name.endswith(f"adapters.{CONDITION}.code")


def first_codes(work: Work) -> State:
    """The site's codes before its first round: white noise, its own."""
    shapes = {name: p.shape for name, p in work.model.named_parameters() if is_code(name)}
    draws = {name: generator(work.seed, "code", work.site.name, name).standard_normal(s) for name, s in shapes.items()}
    return {name: torch.from_numpy(draw).float() for name, draw in draws.items()}


def distance(attention: Any, others: list[Tensor]) -> Tensor:
    """Mean squared difference of the site's heat from that under the other sites' codes, in the last forward pass."""
    own = attention.heat(attention.pooled, attention.code)
    theirs = [attention.heat(attention.pooled, code.to(own.device)).detach() for code in others]
    return torch.stack([mse_loss(own, other) for other in theirs]).mean()


def _last_attention(work: Work) -> Any:
    """The conditioned channel attention of the encoder's last block."""
    return [module for name, module in work.model.named_modules() if name.endswith(f"adapters.{CONDITION}")][-1]
