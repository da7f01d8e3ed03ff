"""What a run costs, measured on a few of its own steps: parameters, operations, time, memory, bytes."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from sammit.data.site import Site
from sammit.errors import UserError
from sammit.federation.estimate import as_sent
from sammit.federation.messages import encode
from sammit.federation.prepare import Prepared
from sammit.learning.inference import WholeCase, segment
from sammit.learning.loop import Trainer, steps_in_round
from sammit.learning.losses import segmentation_loss
from sammit.methods.state import select
from sammit.runs import environment, peak_memory
from sammit.study.costs.flops import flop_counter
from sammit.study.machine import cores, processor
from sammit.vocabulary import Batch, Order, Update


def measured(prepared: Prepared, steps: int, samples: Sequence[int] | None = None) -> dict[str, Any]:
    """The costs of a run; its model has been trained a little afterwards.

    Args:
        prepared: the run; its method's own stages are not told apart, every step trains every live tensor.
        steps: timed, after a first one that warms up and is counted.
        samples: training images of each source site; None: as they are.

    Returns:
        What `cost.json` holds. "flops" are of one image, "bytes" of one site and round; "seconds" of a step and of a
        predicted image are medians, those of the training are computed: all sites' steps times the step's. The peak
        of the process's memory is that up to the last step.

    Raises:
        UserError: the model does not take its steps here.
    """
    experiment, training = prepared.experiment, prepared.experiment.training
    if isinstance(prepared.backbone.model, WholeCase):
        raise UserError(f"{experiment.model.name}: trains in a process of its own, which is not measured; leave it out")
    sources = [site for site in prepared.sites if site.name not in experiment.evaluation.unseen]
    samples = samples or [site.samples("train") for site in sources]
    flops, seconds = _steps(prepared, steps)
    peak, on_gpu = peak_memory(), _gpu_peak(training.device)
    total = training.rounds * sum(steps_in_round(training, number) for number in samples)
    return {
        "model": experiment.model.name,
        "image_side": experiment.data.size,
        "batch_size": training.batch_size,
        "parameters": prepared.parameters(),
        "flops": {way: count // training.batch_size for way, count in flops.items()},
        "steps": total,
        "samples": list(samples),
        "seconds": {
            "step": median(seconds),
            "steps": seconds,
            "training": total * median(seconds),
            "predict": _predict(prepared, sources[0], steps),
        },
        "peak_rss_bytes": peak,
        "peak_gpu_bytes": on_gpu,
        "bytes": _messages(prepared),
        "machine": {"processor": processor(), "cores": cores(), "gpu": _gpu(training.device)},
        "environment": environment(experiment),
    }


def _steps(prepared: Prepared, steps: int) -> tuple[dict[str, int], list[float]]:
    """Operations of the first step by way, and the seconds of each further one."""
    training, model = prepared.experiment.training, prepared.backbone.model
    trainer = Trainer(model, [*prepared.shared, *prepared.personal], training, 0, steps + 1)
    key = (prepared.experiment.seed, prepared.trainers[0].name, 0, "cost")
    first, *rest = prepared.trainers[0].batches(steps + 1, training.batch_size, key)

    def loss(batch: Batch) -> Tensor:
        weights = training.dice_weight, training.bce_weight, training.pos_weight
        return segmentation_loss(model(batch.images), batch, *weights)

    model.train()
    counter, forward = flop_counter(), 0

    def counted(batch: Batch) -> Tensor:
        nonlocal forward
        result = loss(batch)
        forward = counter.get_total_flops()
        return result

    with counter:
        trainer.step(first, counted)
    seconds = []
    for batch in rest:
        started = _now(training.device)
        trainer.step(batch, loss)
        seconds.append(_now(training.device) - started)
    return {"forward": forward, "backward": counter.get_total_flops() - forward}, seconds


def _predict(prepared: Prepared, site: Site, times: int) -> float:
    """Seconds to segment one image, or slice, of the site in its native geometry; the first time is not counted."""
    loaded = site.load(site.all_cases[0])
    device, image = prepared.experiment.training.device, loaded.image[:1]
    seconds = []
    for _ in range(times + 1):
        started = _now(device)
        segment(prepared.backbone.model, image, site.view, device, loaded.spacing)
        seconds.append(_now(device) - started)
    return median(seconds[1:])


def _messages(prepared: Prepared) -> dict[str, int]:
    """Bytes of an update and of an order, as they are serialised."""
    state = select(prepared.backbone.start, set(prepared.shared).__contains__)
    site = prepared.sites[0].name
    update = Update(site, 0, state, {}, 1, {"loss": 0.0, "steps": 1.0})
    return {
        "up": len(encode(as_sent(update, prepared.experiment))),
        "down": len(encode(Order("train", site, 0, state, fingerprint="0" * 64))),
    }


def _now(device: str) -> float:
    """The clock, once the device has done what it was given."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
    return perf_counter()


def _gpu_peak(device: str) -> int | None:
    return torch.cuda.max_memory_allocated(device) if torch.device(device).type == "cuda" else None


def _gpu(device: str) -> str | None:
    return torch.cuda.get_device_name(device) if torch.device(device).type == "cuda" else None
