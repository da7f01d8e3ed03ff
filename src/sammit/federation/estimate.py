"""What a run would cost, measured on one step of random pixels before anything starts."""

from __future__ import annotations

from dataclasses import replace
from time import perf_counter

import torch

from sammit.federation.messages import encode
from sammit.federation.prepare import Prepared
from sammit.learning.inference import WholeCase
from sammit.learning.loop import Trainer, steps_in_round
from sammit.learning.losses import segmentation_loss
from sammit.methods.state import select
from sammit.runs import peak_memory
from sammit.vocabulary import Batch, Update


def estimate(prepared: Prepared) -> dict[str, str]:
    """Parameters, bytes and time in words; the model's tensors are left as they were."""
    training = prepared.experiment.training
    counts = prepared.parameters()
    state = select(prepared.backbone.start, set(prepared.shared).__contains__)
    message = len(encode(Update("site", 0, state, {}, 1, {})))
    known = {
        "parameters": ", ".join(f"{name} {count:,}" for name, count in counts.items()),
        "bytes a site and round": f"{message:,} up, {message:,} down" if prepared.shared else "0",
    }
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


def _measured_step(prepared: Prepared) -> tuple[float, int]:
    """Seconds of one optimiser step (the better of two) and resident memory after it."""
    experiment = prepared.experiment
    names = [*prepared.shared, *prepared.personal]
    model, size = prepared.backbone.model, experiment.data.size
    shape = (experiment.training.batch_size, len(prepared.sites[0].structures), size, size)
    batch = Batch(torch.rand(shape[0], 3, size, size), torch.rand(shape).round(), torch.ones(shape[0], 1, size, size))
    # A rate of nothing: the step costs what it costs and changes nothing.
    trainer = Trainer(model, names, replace(experiment.training, lr=1e-30, weight_decay=0.0), 0, 2)
    times = []
    for _ in range(2):
        started = perf_counter()
        trainer.step(batch, lambda b: segmentation_loss(model(b.images), b))
        times.append(perf_counter() - started)
    return min(times), peak_memory()
