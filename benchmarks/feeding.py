"""How much of a training step the model waits for its images.

    python -m benchmarks.feeding [--model sam-vit-b] [--size 256] [--steps 20] [--batch 2] [--device cuda] [--json]

Tiles of generated images with augmentation, a decoder and LoRA, random weights. Ours is a pass over images that any
earlier run, seed or method has decoded into the cache; the reference has an empty cache, so that every image is
decoded in its step. Both are shares of the time from one step to the next: medians over steps.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterable
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from benchmarks.measure import machine, show


def shares(batches: Iterable[Any], step: Any) -> list[float]:
    """Of each step, the share that passed before its batch was there."""
    found, source = [], iter(batches)
    while True:
        started = perf_counter()
        batch = next(source, None)
        if batch is None:
            return found
        arrived = perf_counter()
        step(batch)
        found.append((arrived - started) / (perf_counter() - started))


def measured(args: argparse.Namespace, folder: Path) -> dict[str, float]:
    """The waiting shares with an empty and with a full cache."""
    from sammit.data.phantom import DEMO, write_sites
    from sammit.data.sites import open_sites
    from sammit.federation.prepare import prepare
    from sammit.learning.loop import Trainer
    from sammit.learning.losses import segmentation_loss
    from sammit.recipe import experiment_from

    write_sites(folder / "sites", DEMO, 0)
    table = {
        "data": {"root": str(folder / "sites"), "view": "tile", "size": args.size, "cache": str(folder / "first")},
        "model": {"name": args.model, "weights": "random", "adapter": "lora"},
        "training": {"rounds": 1, "local_steps": args.steps, "batch_size": args.batch, "device": args.device},
    }
    prepared = prepare(experiment_from(table))
    model, training = prepared.backbone.model.train(), prepared.experiment.training
    trainer = Trainer(model, prepared.backbone.live, training, 0, args.steps)

    def step(batch: Any) -> None:
        trainer.step(batch, lambda b: segmentation_loss(model(*b.inputs), b))

    site = prepared.sites[0]
    shares(site.batches(2, args.batch, ("warm up",)), step)
    table["data"]["cache"] = str(folder / "second")
    config = experiment_from(table).data
    found = {}
    for name in ("empty", "full"):
        site = open_sites(config, 0)[0]  # as a new run opens it: nothing in memory
        found[name] = median(shares(site.batches(args.steps, args.batch, ("timed",)), step))
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="sam-vit-b")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measured(args, Path(folder))
    show(
        {
            "name": "feeding",
            "ours": round(found["full"], 4),
            "reference": round(found["empty"], 4),
            "ratio": round(found["full"] / found["empty"], 3),
            "unit": "share of a step's time in which the model waits, with a full and with an empty cache",
            "model": args.model,
            "pixels": args.size,
            "machine": machine(),
        },
        args.json,
    )


if __name__ == "__main__":
    main()
