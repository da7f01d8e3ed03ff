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

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import ceil
from statistics import pstdev
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.func import functional_call

from sammit.errors import UserError
from sammit.learning.loop import Trainer
from sammit.methods import base
from sammit.methods.base import Outcome, Which, Work
from sammit.methods.heads import in_head
from sammit.methods.mixing import Tensors, mixed
from sammit.methods.state import put, select, take, with_prefix, without_prefix
from sammit.vocabulary import Batch, Declared, State

PAPER = "Zhang et al. 2023 (2212.01197)"
TRAVELS = "every trained tensor"
STAYS = "weights of the mixture, one for each element of the higher layers"

LOOK_BACK = 10  # passes whose losses must agree


@dataclass(frozen=True)
class Options(base.Options):
    """`[method]` of fedala."""

    layers: Literal["decoder", "output", "all"] = "decoder"  # the higher layers, which are mixed
    eta: float = 1.0  # rate of the weights
    data_share: float = 0.8  # of the training samples, to learn the weights on
    settled: float = 0.1  # deviation of ten losses that ends the first learning
    most_passes: int = 20  # of the first learning

    def check(self) -> None:
        """Raise UserError where a value cannot be right."""
        if not self.eta > 0 or not self.settled > 0:
            raise UserError("method: eta and settled must be above 0")
        if not 0 < self.data_share <= 1:
            raise UserError("method.data_share: must be above 0, and at most 1")
        if self.most_passes < 1:
            raise UserError("method.most_passes: must be at least 1")


class Method(base.Method):
    """Federated averaging from another start."""

    judged: ClassVar[tuple[Which, ...]] = ("global", "personal")
    reported: ClassVar[Which] = "personal"
    site_state: ClassVar[tuple[Declared, ...]] = (
        *base.Method.site_state,
        Declared("own.", None, "float32", "this site's higher layers, as it sent them last"),
        Declared("weights.", None, "float32", "share of the global model in each of their elements"),
    )
    options: Options

    def __init__(self, options: Options | None = None) -> None:
        super().__init__(options or Options())
        self.options.check()

    def train(self, work: Work) -> Outcome:
        """Learn the weights, mix, train all; the first round starts from the global model."""
        higher, (weights, _) = self._higher(work), self._learned(work)
        put(work.model, self._mixture(work.private, weights, work.order.tensors))
        outcome = super().train(work)
        own = take(work.model, higher)
        return replace(outcome, private=outcome.private | with_prefix("own", own) | with_prefix("weights", weights))

    def finish(self, work: Work) -> Outcome | None:
        """Learn the weights for the model that the run leaves; no tensor of it is trained."""
        weights, loss = self._learned(work)
        if not weights:
            return None
        kept = select(work.private, lambda name: not name.startswith("personal."))  # the worker adds those
        return Outcome(kept | with_prefix("weights", weights), {}, {"loss": loss, "steps": 0})

    def personal(self, private: State, shared: State) -> State:
        """The mixture, with the weights that were learned last."""
        return self._mixture(private, without_prefix("weights", private), shared)

    def notes(self) -> tuple[str, ...]:
        """That the weights are learned after the last aggregation too."""
        return ("After the last aggregation each site learned its mixing weights once more, and trained nothing.",)

    def _mixture(self, private: State, weights: State, shared: State) -> State:
        """Personal tensors and mixed higher layers; without weights these are the global model's."""
        return {**without_prefix("personal", private), **mixed(without_prefix("own", private), shared, weights)}

    def _learned(self, work: Work) -> tuple[State, float]:
        """The weights for the model that was sent, and the last pass's loss; none before the site has layers to mix."""
        own, before = without_prefix("own", work.private), without_prefix("weights", work.private)
        if not own:
            return {}, 0.0
        work.model.requires_grad_(False)  # no gradient but that of the weights
        weights = Tensors(before or {name: torch.ones_like(tensor) for name, tensor in own.items()}, work.model)
        objective, losses = self._mixed_objective(work, own, weights), list[float]()
        while len(losses) < (1 if before else self.options.most_passes) and not self._settled(losses):
            losses.append(self._pass(work, weights, objective, len(losses)))
        return take(weights, own), losses[-1]

    def _pass(self, work: Work, weights: Tensors, objective: Callable[[Batch], Tensor], index: int) -> float:
        """Plain steps on the weights over a share of the samples, clipped after each; the mean loss."""
        plain = replace(
            work.training,
            optimiser="sgd", lr=self.options.eta, adapter_lr=0.0, momentum=0.0, weight_decay=0.0, clip=0.0,
            schedule="constant", warmup=0.0,
        )  # fmt: skip
        steps = ceil(self.options.data_share * work.site.samples("train") / work.training.batch_size)
        trainer = Trainer(weights, dict(weights.named_parameters()), plain, 0, steps)
        for batch in work.batches(steps, f"weights {index}"):
            trainer.step(batch, objective)
            with torch.no_grad():
                for weight in weights.parameters():
                    weight.clamp_(0, 1)
        return trainer.mean_loss

    def _mixed_objective(self, work: Work, own: State, weights: Tensors) -> Callable[[Batch], Tensor]:
        """The recipe's loss of the mixture as a function of its weights."""
        device = {name: weight.device for name, weight in weights.named_parameters()}
        mine, sent = ({name: state[name].to(device[name]) for name in own} for state in (own, work.order.tensors))

        def objective(batch: Batch) -> Tensor:
            both = mixed(mine, sent, dict(weights.named_parameters()))
            return self.segmentation(work, functional_call(work.model, both, (batch.images,)), batch)

        return objective

    def _settled(self, losses: list[float]) -> bool:
        """Whether the last ten passes agree."""
        return len(losses) >= LOOK_BACK and pstdev(losses[-LOOK_BACK:]) < self.options.settled

    def _higher(self, work: Work) -> list[str]:
        """The names that are mixed."""
        layers = self.options.layers
        names = [name for name in self.shared_names(work.live) if layers == "all" or in_head(name, layers)]
        if not names:
            raise UserError(f"method.layers: nothing that is trained and shared is in '{layers}'; choose 'all'")
        return names
