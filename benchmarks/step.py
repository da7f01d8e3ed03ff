"""One training step of ViT-B FedMSA, batch 1, random weights: seconds and peak memory.

    python -m benchmarks.step [--size 1024] [--json]

Peak memory is that of a process that builds the model and takes two steps; the time is the second step's.
"""

from __future__ import annotations

import argparse
import json
import resource
from time import perf_counter

from benchmarks.measure import apart, machine, show


def one(size: int) -> dict[str, float]:
    """Two steps in this process."""
    import torch

    from sammit.config import ModelConfig, TrainingConfig
    from sammit.learning.loop import Trainer
    from sammit.learning.losses import segmentation_loss
    from sammit.models.build import build_model, set_trainable
    from sammit.vocabulary import Batch

    model = build_model(ModelConfig("sam-vit-b", "random", ("bottleneck",), output_stride=4), size, 1, 0)
    names = set_trainable(model, "adapters")
    truth = torch.rand(1, 1, size, size).round()
    batch = Batch(torch.rand(1, 3, size, size), truth, torch.ones_like(truth))
    trainer = Trainer(model, names, TrainingConfig(rounds=1, local_steps=2, batch_size=1), 0, 2)
    times = []
    for _ in range(2):
        started = perf_counter()
        trainer.step(batch, lambda b: segmentation_loss(model(b.images), b))
        times.append(perf_counter() - started)
    return {"seconds": times[-1], "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}


def main() -> None:
    """Measure in a fresh process and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--inner", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.inner:
        print(json.dumps(one(args.size)))
        return
    found = apart("benchmarks.step", "--size", str(args.size), "--inner")
    show(
        {
            "name": "step",
            "pixels": args.size,
            "seconds": round(found["seconds"], 2),
            "peak_MiB": round(found["peak_bytes"] / 2**20),
            "machine": machine(),
        },
        args.json,
    )


if __name__ == "__main__":
    main()
