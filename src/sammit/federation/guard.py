"""What the server checks of every reply before it counts."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from sammit.errors import UserError
from sammit.federation.stored import Stored
from sammit.methods.base import Judging
from sammit.methods.state import first_not_finite
from sammit.reporting.summary import sound_entry
from sammit.vocabulary import AnyState, Declared, Failure, Judgement, Part, Reply, Update


def refusal(
    reply: Reply,
    round_index: int,
    template: AnyState,
    declared: Sequence[Declared],
    reports: Collection[str],
    announced: int | None = None,
) -> str:
    """Why a reply to a training order is not taken, in one line; empty if it is sound.

    Args:
        reply: what came back.
        round_index: the round that was ordered.
        template: a tensor of the right shape and type for every shared name.
        declared: the extras the method declares for updates.
        reports: the names of the numbers it declares.
        announced: how many samples the site said that it trains on, where it was asked.
    """
    if isinstance(reply, Failure):
        return reply.reason
    if not isinstance(reply, Update):
        return f"answered a training order with {type(reply).__name__}"
    if reply.round != round_index:
        return f"sent an update for round {reply.round}"
    if type(reply.samples) is not int or reply.samples < 1:
        return f"claims {reply.samples} samples"
    if announced is not None and reply.samples != announced:
        return f"claims {reply.samples} samples, having announced {announced}"
    numbers = _error(lambda: check_reported(reply.metrics, reports))
    extras = _error(lambda: check_declared(reply.extras, tuple(declared), "an update"))
    return numbers or _names(reply, template) or extras or _tensors(reply, template)


def judgement_refusal(reply: Reply, round_index: int, part: Part, judging: Judging) -> str:
    """Why an answer to an order to score is not taken, in one line; empty if it is sound.

    Args:
        reply: what came back.
        round_index, part: what was ordered.
        judging: the models that may be judged.
    """
    if isinstance(reply, Failure):
        return reply.reason
    if not isinstance(reply, Judgement):
        return f"answered an order to score with {type(reply).__name__}"
    if (reply.round, reply.part) != (round_index, part):
        return f"sent scores of the {reply.part} part in round {reply.round}"
    for name, value in reply.dice.items():
        if name not in {*judging.models, *judging.unseen}:
            return f"sent a Dice of '{name}', which is no model of the method"
        if not 0 <= value <= 1:
            return f"sent a Dice of {value}"
    return "" if not reply.entry or sound_entry(reply.entry) else "sent an entry that is none of a summary"


def _names(update: Update, template: AnyState) -> str:
    extra, missing = set(update.tensors) - set(template), set(template) - set(update.tensors)
    if extra:
        return f"sent the undeclared tensor '{min(extra)}'"
    return f"did not send the shared tensor '{min(missing)}'" if missing else ""


def _tensors(update: Update, template: AnyState) -> str:
    """Shapes and types of all, then their numbers in one pass: the tensors may lie on disk."""
    for name, shape, dtype in _forms(update.tensors):
        wanted = template[name]
        if shape != tuple(wanted.shape) or dtype != wanted.dtype:
            return f"sent '{name}' as {dtype} {shape}, not {wanted.dtype} {tuple(wanted.shape)}"
    bad = _first_not_finite(update.tensors) or _first_not_finite(update.extras)
    return f"sent NaN or infinity in '{bad}'; a lower training.lr may help" if bad else ""


def _forms(state: Mapping[str, Tensor]) -> Iterator[tuple[str, tuple[int, ...], torch.dtype]]:
    if isinstance(state, Stored):
        return state.forms()
    return ((name, tuple(tensor.shape), tensor.dtype) for name, tensor in state.items())


def _first_not_finite(state: Mapping[str, Tensor]) -> str | None:
    return state.first_not_finite() if isinstance(state, Stored) else first_not_finite(state)


def _error(check: Callable[[], None]) -> str:
    try:
        check()
    except UserError as error:
        return str(error)
    return ""


def check_reported(metrics: Mapping[str, float], reports: Collection[str]) -> None:
    """Raise UserError where a number has a name that the method does not declare, or is none."""
    for name, value in metrics.items():
        if name not in reports:
            raise UserError(f"sent the undeclared number '{name}': the method must name it in `reports` or not send it")
        if not isinstance(value, int | float):
            raise UserError(f"sent '{name}', which is no number")


def check_declared(state: Mapping[str, Tensor], declared: tuple[Declared, ...], where: str) -> None:
    """Raise UserError where `state` holds a tensor that no declaration covers, or of another shape or type."""
    for name, tensor in state.items():
        fits = declaration_of(name, declared)
        if fits is None:
            raise UserError(f"{where} holds the undeclared tensor '{name}': the method must declare it or not send it")
        shape, dtype = fits.shape, str(tensor.dtype).removeprefix("torch.")
        if dtype != fits.dtype or not (shape is None or _has_shape(tensor, shape)):
            raise UserError(
                f"'{name}' in {where} is {dtype} {tuple(tensor.shape)}, declared as {fits.dtype} {shape}: "
                "the method must send what it declares"
            )


def _has_shape(tensor: Tensor, shape: tuple[int, ...]) -> bool:
    """Whether a tensor is as declared, any length being right for a side of -1."""
    return tensor.ndim == len(shape) and all(
        wanted in (-1, side) for side, wanted in zip(tensor.shape, shape, strict=True)
    )


def declaration_of(name: str, declared: tuple[Declared, ...]) -> Declared | None:
    """The declaration that covers a tensor: its own, or that of its family; None where there is none."""
    covers = (d for d in declared if d.name == name or (d.name.endswith(".") and name.startswith(d.name)))
    return next(covers, None)
