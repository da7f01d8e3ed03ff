"""norm_local, the idea of FedBN for networks without batch norm: what belongs to a norm layer stays at its site.

    u: weights and biases of all norm layers,     theta: every other trained tensor
    (theta_k, u_k) <- local training from (theta^t, u_k),     theta^{t+1} = sum_k (n_k / n) theta_k

FedBN (Li et al., 2102.07623) keeps batch norms, statistics and affine weights alike, against a shift of the images'
looks. Segment Anything has layer norms, which have no statistics; their weights and biases are what can stay, hence
the name. A tensor belongs to a norm layer if one word of its name is "norm", numbered or not (layer_norm1,
upscale_layer_norm, layer_norm_final_attn): in blocks, neck and decoder. Where the encoder is frozen, its norms are
not trained, and those of the decoder are what stays. A network whose norms have no weights (unet) is refused.

Where popular code deviates: FedBN's own looks for "bn" in names, which no norm of Segment Anything has, and weighs
sites equally; here they count by their samples.
"""

from __future__ import annotations

import re
from typing import ClassVar

from sammit.methods import base
from sammit.methods.base import Judged, Outcome, Which, Work
from sammit.methods.heads import need_both

PAPER = "after FedBN, Li et al. 2021 (2102.07623)"
TRAVELS = "every trained tensor outside the norm layers"
STAYS = "weights and biases of the norm layers"

_NORM = re.compile(r"norm\d*")


class Options(base.Options):
    """No options."""


class Method(base.Method):
    """Shares what is outside the norm layers; training is the default."""

    judged: ClassVar[tuple[Which, ...]] = ("personal",)
    reported: ClassVar[Which] = "personal"
    unseen: ClassVar[tuple[Judged, ...]] = ("experts", "sources")
    unseen_rule: ClassVar[str] = (
        "the shared part with the mean of the sites' norm layers; beside it the mean score of their own models"
    )

    def shares(self, name: str) -> bool:
        """All but norm layers."""
        return not in_norm(name)

    def train(self, work: Work) -> Outcome:
        """Plain local training of both parts."""
        need_both(self.shared_names(work.live), self.personal_names(work.live))
        return super().train(work)


def in_norm(name: str) -> bool:
    """Whether a tensor belongs to a norm layer, by a word of its name."""
    return any(_NORM.fullmatch(word) for word in re.split(r"[._]", name))
