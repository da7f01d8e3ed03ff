"""Small updates: what a site sends is the rounded difference to what it was sent, with what it could not say before.

    d_k = w_k - w + e_k           w as in the order, w_k after training, e_k unsent so far
    sent: q, s of d_k             rounded; with `top_k` of the largest numbers alone, and their places
    server: w + s q               which is then checked and used as any update is
    e_k <- d_k - s q              stays at the site, and counts once the server has taken the update (`memory`)

The sum of what is sent so approaches the sum of what was meant, whatever is lost in one round (error feedback: Seide et
al. 2014; Karimireddy et al., 1901.09847). No engine takes part: a `SmallUpdate` is a message like any other. Extras
and orders travel in full.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from sammit.config import Experiment
from sammit.errors import UserError
from sammit.federation.places import count_of, heard, largest, told
from sammit.federation.pressing import opened, pressed
from sammit.federation.rounding import FORMS, Form, restored, rounded, scales_of
from sammit.randomness import generator
from sammit.vocabulary import AnyState, Failure, Order, Reply, SmallUpdate, State, Update

UNSENT = "unsent"
"""e_k in a site's private state, by the tensors' names."""

PARTS = ("numbers", "scales", "places")


@dataclass(frozen=True)
class SmallUpdates:
    """How the updates of an experiment are made small, and full again.

    Attributes:
        form: of a number.
        share: of each tensor's numbers, the largest; 1: all, without places.
        seed: the experiment's; it keys what is drawn in rounding.
    """

    form: Form
    share: float
    seed: int

    @classmethod
    def of(cls, experiment: Experiment) -> SmallUpdates | None:
        """As `[training]` says; None where updates travel in full."""
        training = experiment.training
        return cls(FORMS[training.updates], training.top_k, experiment.seed) if training.updates in FORMS else None

    def packed(self, update: Update, base: Mapping[str, Tensor], unsent: State) -> SmallUpdate:
        """A site's update as it travels.

        Args:
            update: in full, every number finite.
            base: what each of its tensors was in the order.
            unsent: e_k, of some names or of all.
        """
        parts: State = {}
        for name, tensor in update.tensors.items():
            values = _wanted(name, tensor, unsent).sub_(base[name].double()).flatten()
            if self.share < 1:
                places = largest(values, count_of(len(values), self.share))
                parts[f"places.{name}"] = told(places, len(values))
                values = values[places]
            draws = generator(self.seed, update.site, update.round, "update", name)
            parts[f"numbers.{name}"], parts[f"scales.{name}"] = rounded(values, self.form, draws)
        return SmallUpdate(update.site, update.round, pressed(parts), update.extras, update.samples, update.metrics)

    def in_full(self, small: SmallUpdate, base: AnyState) -> Update:
        """The update that the server goes on with.

        Args:
            small: from a site, not yet looked at.
            base: the tensors of the order that it answers, of every name that is shared.

        Raises:
            UserError: what is wrong with it, by the tensor's name. Whether the result is finite is not looked at.
        """
        parts = opened(dict(small.tensors), base)
        names = [kind for kind in PARTS if kind != "places" or self.share < 1]
        wanted = {f"{kind}.{name}" for kind in names for name in base}
        if extra := parts.keys() - wanted:
            raise UserError(f"sent the undeclared tensor '{_bare(extra)}'")
        if missing := wanted - parts.keys():
            raise UserError(f"did not send the shared tensor '{_bare(missing)}'")
        tensors = {name: self._restored(name, parts, start) for name, start in base.items()}
        return Update(small.site, small.round, tensors, small.extras, small.samples, small.metrics)

    def _restored(self, name: str, parts: State, start: Tensor) -> Tensor:
        """One tensor, of the order's shape and type."""
        numbers, scales = parts[f"numbers.{name}"], parts[f"scales.{name}"]
        count = count_of(start.numel(), self.share)
        if numbers.dtype != self.form.dtype or numbers.shape != (count,):
            found = f"{numbers.dtype} {tuple(numbers.shape)}"
            raise UserError(f"sent the numbers of '{name}' as {found}, not {self.form.dtype} {(count,)}")
        if scales.dtype != torch.float32 or scales.shape != (scales_of(count, self.form),):
            raise UserError(f"sent {tuple(scales.shape)} scales of '{name}', not {scales_of(count, self.form)}")
        if not bool(((scales >= 0) & scales.isfinite()).all()):
            raise UserError(f"sent a scale of '{name}' that is negative, NaN or infinite; a lower training.lr may help")
        values = restored(numbers, scales, self.form)
        if self.share < 1:
            try:
                places = heard(parts[f"places.{name}"], count, start.numel())
            except ValueError:
                raise UserError(f"sent places of '{name}' that are outside of it, or not as many as numbers") from None
            values = torch.zeros(start.numel(), dtype=torch.float64).index_copy_(0, places, values)
        return values.reshape(start.shape).add_(start.double()).to(start.dtype)


def left_unsent(update: Update, arrived: Update, unsent: State, names: Iterable[str]) -> State:
    """e_k after a round: what was wanted, less what the server has by then.

    Args:
        update, arrived: as the site meant it, and as the server makes it out.
        unsent: e_k before.
        names: of the tensors for which it is kept.
    """
    tensors, found = update.tensors, arrived.tensors
    return {name: _wanted(name, tensors[name], unsent).sub_(found[name].double()).float() for name in names}


def received(reply: Reply, order: Order, template: AnyState, small: SmallUpdates | None) -> Reply:
    """A reply as the guard looks at it: a small update in full, all else as it came.

    Args:
        reply: to a training order.
        order: that order.
        template: a tensor of the right shape for each name that the site shares.
        small: how the experiment's updates travel.
    """
    if small is None or not template or not isinstance(reply, Update | SmallUpdate):
        return reply
    if isinstance(reply, Update):
        return Failure(reply.site, reply.round, "sent an update in full; training.updates says otherwise")
    try:
        return small.in_full(reply, base_of(order, template))
    except UserError as error:
        return Failure(reply.site, reply.round, str(error))


def base_of(order: Order, template: AnyState) -> State:
    """What differences are taken to: the order's tensors, and the common start of what it does not send."""
    return {name: order.tensors.get(name, start) for name, start in template.items()}


def _wanted(name: str, tensor: Tensor, unsent: State) -> Tensor:
    """w_k + e_k in float64, in memory of its own."""
    wanted = tensor.to(torch.float64, copy=True)
    return wanted.add_(unsent[name]) if name in unsent else wanted


def _bare(names: Iterable[str]) -> str:
    """The first of some parts' names, without the part."""
    kind, _, name = min(names).partition(".")
    return name if kind in PARTS else f"{kind}.{name}".rstrip(".")
