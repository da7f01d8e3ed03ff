"""A second model of a site, beside the one that travels: what Ditto and APFL keep of it and how they start a round."""

from __future__ import annotations

from sammit.learning.loop import Trainer
from sammit.methods import base
from sammit.methods.base import Work
from sammit.methods.state import put, take, with_prefix, without_prefix
from sammit.vocabulary import Declared, State

SITE_STATE = (
    *base.Method.site_state,
    Declared("own.", None, "float32", "this site's second model"),
    Declared("own_optimiser.", None, "float32", "moments of its optimiser, where the recipe keeps them"),
)


def travelling(work: Work) -> State:
    """Put the model that travels where the worker has put the site's own; a copy of its trained tensors."""
    put(work.model, {**without_prefix("personal", work.private), **work.order.tensors})
    return take(work.model, work.live)


def own_moments(work: Work) -> State | None:
    """The state of the second model's optimiser after this site's last round, where the recipe keeps it."""
    return without_prefix("own_optimiser", work.private) if work.training.optimiser_state == "keep" else None


def kept(work: Work, own: State, trainer: Trainer, own_trainer: Trainer) -> State:
    """The private state after a round: the second model, and both optimisers' states where the recipe keeps them."""
    private = with_prefix("own", own)
    if work.training.optimiser_state == "keep":
        private |= with_prefix("optimiser", trainer.optimiser_state())
        private |= with_prefix("own_optimiser", own_trainer.optimiser_state())
    return private
