"""FedALA: federated averaging that starts each round from an element-wise mixture of the site's own and the new model.

    theta_k <- theta_k + (w^t - theta_k) * W_k        higher layers; lower layers <- w^t
    theta_k <- local training from there,             w^{t+1} = sum_k (n_k / n) theta_k
    W_k <- clip(W_k - eta g * (w^t - theta_k), 0, 1)  learned first, g the gradient of F_k at the mixture

Zhang et al., 2212.01197. W has one number for each element of the higher layers, is 1 at first (the global model) and
goes on from round to round. It is learned on `data_share` of a pass over the training samples before a round's
training; in the second round, when it is learned for the first time, until the losses of the last ten passes deviate
by less than `settled`, at most `most_passes`. There is nothing to mix in the first round. A site is judged with the
mixture, as the paper judges it: W from the last round until the run's last model is there, then learned once more.

Which layers are the higher ones is an option: the whole decoder, its output, or all that is shared. The paper counts
the last p layers; here they are chosen by name.

Learning W is no optimiser step of the model and is not counted; its cost is a forward and a backward pass through the
higher layers for each batch of `data_share` of a pass, at least ten times over in the second round. A site keeps W and
its own higher layers. Where the published code deviates: it drops the last batch that is not full, takes its share of
the samples in one piece from a random place, and looks at the loss of a pass's last batch where the mean is taken here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, Literal

from sammit.errors import UserError
from sammit.methods import adaptive, base
from sammit.methods.base import Outcome, Which, Work
from sammit.methods.heads import in_head
from sammit.methods.state import put, take, without_prefix
from sammit.vocabulary import AnyState, Declared, State

PAPER = "Zhang et al. 2023 (2212.01197)"
TRAVELS = "every trained tensor"
STAYS = "weights of the mixture, one for each element of the higher layers"


@dataclass(frozen=True)
class Options(adaptive.Options):
    """`[method]` of fedala, beside how the weights are learned."""

    layers: Literal["decoder", "output", "all"] = "decoder"  # the higher layers, which are mixed


class Method(base.Method):
    """Federated averaging from another start."""

    judged: ClassVar[tuple[Which, ...]] = ("global", "personal")
    reported: ClassVar[Which] = "personal"
    site_state: ClassVar[tuple[Declared, ...]] = (*base.Method.site_state, *adaptive.KEPT)
    options: Options

    def __init__(self, options: Options | None = None) -> None:
        super().__init__(options or Options())
        self.options.check()

    def starts_as_sent(self, name: str) -> bool:
        """The lower layers."""
        return not self._is_higher(name)

    def train(self, work: Work) -> Outcome:
        """Learn the weights, mix, train all; the first round starts from the global model."""
        higher = self._higher(work)
        weights, _ = adaptive.learned(work, self.options, partial(self.segmentation, work))
        put(work.model, adaptive.mixture(work.private, weights, work.order.tensors))
        outcome = super().train(work)
        return replace(outcome, private=outcome.private | adaptive.kept(take(work.model, higher), weights))

    def finish(self, work: Work) -> Outcome | None:
        """Learn the weights for the model that the run leaves; no tensor of it is trained."""
        return adaptive.learned_last(work, self.options, partial(self.segmentation, work))

    def personal(self, private: State, shared: AnyState) -> State:
        """The mixture, with the weights that were learned last."""
        return adaptive.mixture(private, without_prefix("weights", private), shared)

    def notes(self) -> tuple[str, ...]:
        """That the weights are learned after the last aggregation too."""
        return (adaptive.NOTE,)

    def _higher(self, work: Work) -> list[str]:
        """The names that are mixed."""
        names = [name for name in self.shared_names(work.live) if self._is_higher(name)]
        if not names:
            layers = self.options.layers
            raise UserError(f"method.layers: nothing that is trained and shared is in '{layers}'; choose 'all'")
        return names

    def _is_higher(self, name: str) -> bool:
        return self.options.layers == "all" or in_head(name, self.options.layers)
