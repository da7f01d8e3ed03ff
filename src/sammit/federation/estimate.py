"""What a run would cost, measured on one step of random pixels before anything starts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from time import perf_counter

import torch
from torch import Tensor

from sammit.config import Experiment
from sammit.federation.messages import encode
from sammit.federation.prepare import Prepared
from sammit.federation.small import SmallUpdates
from sammit.learning.inference import WholeCase
from sammit.learning.loop import Trainer, steps_in_round
from sammit.learning.losses import segmentation_loss
from sammit.methods.aggregators.factors import is_factor
from sammit.methods.state import fingerprint
from sammit.randomness import generator
from sammit.runs import peak_memory
from sammit.vocabulary import AnyState, Batch, Declared, Order, SmallUpdate, State, Update


def estimate(prepared: Prepared) -> dict[str, str]:
    """Parameters, bytes and time in words; the model's tensors are left as they were."""
    training = prepared.experiment.training
    counts = prepared.parameters()
    known = {
        "parameters": ", ".join(f"{name} {count:,}" for name, count in counts.items()),
        "bytes a site and round": _bytes_in_words(prepared),
    }
    if prepared.prefix:
        known["prefix cache"] = prepared.prefix.announcement()
    if any(is_factor(name) for name in prepared.shared):
        known["low-rank factors"] = f"merged by {prepared.experiment.method.aggregator}"
    if isinstance(prepared.backbone.model, WholeCase):
        return known | {"training time": "not measured: the model trains in a process of its own"}
    seconds, memory = _measured_step(prepared)
    steps = sum(steps_in_round(training, site.samples("train")) for site in prepared.sites if site.cases("train"))
    return known | {
        "steps": f"{steps} a round over all sites, {training.rounds} rounds",
        "seconds a step": f"{seconds:.2f} (measured here, batch {training.batch_size})",
        "training time": f"about {steps * training.rounds * seconds / 60:.0f} min, scoring not counted",
        "memory": f"about {memory / 1e6:.0f} MB (this process after one step)",
    }


def _bytes_in_words(prepared: Prepared) -> str:
    """Up and down in the first round; site by site where they differ."""
    about = "about " if SmallUpdates.of(prepared.experiment) and prepared.shared else ""
    told = {
        site.name: "{}{:,} up, {:,} down".format(about, *message_bytes(prepared, site.name))
        for site in prepared.trainers
    }
    if len(set(told.values())) == 1:
        return next(iter(told.values()))
    return "; ".join(f"{site} {words}" for site, words in told.items())


def message_bytes(prepared: Prepared, site: str) -> tuple[int, int]:
    """Bytes of one site's first update and of the order for it, each serialised as it would travel.

    The order is the real one. Of the update's extras only the declarations are known: a family without a shape is
    counted as one tensor for each shared name, and one with a side of unknown length as nothing. Small updates differ
    a little from round to round.
    """
    method = prepared.method
    tensors, extras = method.orders(prepared.server, site)
    down = Order("train", "site", 0, method.aggregator.cut(tensors, site), extras, fingerprint(tensors))
    sent = method.aggregator.cut(prepared.template, site)
    up = Update("site", 0, sent, _declared(method.extras_up, sent), 1, dict.fromkeys(method.reports, 0.5))
    return len(encode(as_sent(up, prepared.experiment))), len(encode(down))


def as_sent(update: Update, experiment: Experiment) -> Update | SmallUpdate:
    """An update as it would travel, before there is one.

    Args:
        update: its tensors are those of the order; where differences travel they are drawn here, each from a normal
            distribution, since how few bytes they take depends on them.
        experiment: which says how updates travel.
    """
    small = SmallUpdates.of(experiment)
    if small is None or not update.tensors:
        return update
    trained = {name: tensor + _noise(name, tensor.shape) for name, tensor in update.tensors.items()}
    return small.packed(replace(update, tensors=trained), update.tensors, {})


def _noise(name: str, shape: torch.Size) -> Tensor:
    return 1e-3 * torch.as_tensor(generator("estimate", name).standard_normal(tuple(shape)), dtype=torch.float32)


def _declared(extras: Iterable[Declared], shared: AnyState) -> State:
    """Zeros for each declared tensor."""
    state: State = {}
    for declared in extras:
        kind = getattr(torch, declared.dtype)
        if declared.shape is not None:
            state[declared.name] = torch.zeros([max(side, 0) for side in declared.shape], dtype=kind)
        else:
            state |= {f"{declared.name}{name}": torch.zeros_like(t, dtype=kind) for name, t in shared.items()}
    return state


def _measured_step(prepared: Prepared) -> tuple[float, int]:
    """Seconds of one optimiser step (the better of two) and resident memory after it."""
    experiment = prepared.experiment
    names = [*prepared.shared, *prepared.personal]
    model, size = prepared.backbone.model, experiment.data.size
    shape = (experiment.training.batch_size, len(prepared.sites[0].structures), size, size)
    batch = Batch(torch.rand(shape[0], 3, size, size), torch.rand(shape).round(), torch.ones(shape[0], 1, size, size))
    if prepared.prefix:
        batch = prepared.prefix.blank(batch)
    # A rate of nothing: the step costs what it costs and changes nothing.
    trainer = Trainer(model, names, replace(experiment.training, lr=1e-30, weight_decay=0.0), 0, 2)
    times = []
    for _ in range(2):
        started = perf_counter()
        trainer.step(batch, lambda b: segmentation_loss(model(*b.inputs), b))
        times.append(perf_counter() - started)
    return min(times), peak_memory()
