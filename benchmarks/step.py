"""One FedMSA step of ViT-B, batch 1, random weights: seconds and peak memory, against transformers' eager encoder.

    python -m benchmarks.step [--size 1024] [--repeat 3] [--device cpu] [--json]

Each side is a process of its own that builds the model and takes a first step, which is not counted, and then some
more; the time is their median, the memory the process's peak (of the GPU, what was allocated there at most). The sides
differ in the encoder alone. `ours` is bf16 without checkpointing. `of_bf16_rate` is the rate of the step's counted
operations over that of a product of two large matrices in bf16, on the same device right after.
"""

from __future__ import annotations

import argparse
import json
from functools import partial
from statistics import median

from benchmarks.eager import REFERENCE, RETURNING, SIDES, beside_reference, built, matrix_rate, peak_bytes, waited
from benchmarks.measure import apart, show


def one(side: str, name: str, size: int, repeat: int, device: str) -> dict[str, float]:
    """One side in this process."""
    import torch

    from sammit import heap
    from sammit.config import TrainingConfig
    from sammit.learning.loop import Trainer
    from sammit.learning.losses import segmentation_loss
    from sammit.study.costs.flops import flop_counter
    from sammit.vocabulary import Batch

    model, names = built(side, name, size, device)
    draw = torch.Generator().manual_seed(0)
    truth = torch.rand(1, 1, size, size, generator=draw).round()
    batch = Batch(torch.rand(1, 3, size, size, generator=draw), truth, torch.ones_like(truth))
    precision, checkpointing = SIDES[side]
    training = TrainingConfig(batch_size=1, precision=precision, checkpointing=checkpointing, device=device)
    if checkpointing or side == RETURNING:
        heap.map_blocks()
    elif side != REFERENCE:
        heap.keep_blocks()
    trainer = Trainer(model, names, training, 0, repeat + 1)
    step = partial(trainer.step, batch, lambda b: segmentation_loss(model(b.images), b))
    with flop_counter() as counter:
        step()
    seconds = []
    for _ in range(repeat):
        started = waited(device)
        step()
        seconds.append(waited(device) - started)
    took, peak = median(seconds), peak_bytes(device)
    rate = counter.get_total_flops() / took
    speed = {"images_per_second": 1 / took, "of_bf16_rate": rate / matrix_rate(device)}
    return {"seconds": took, "peak_bytes": peak, "check": trainer.mean_loss, **speed}


def main() -> None:
    """Every side in a fresh process; ratios to the reference."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="sam-vit-b", help="sam-tiny tries the script in seconds")
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--inner", choices=SIDES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.inner:
        print(json.dumps(one(args.inner, args.model, args.size, args.repeat, args.device)))
        return
    same = ("--model", args.model, "--size", str(args.size), "--repeat", str(args.repeat), "--device", args.device)
    found = {side: apart("benchmarks.step", *same, "--inner", side) for side in SIDES}
    what = f"a step at {args.size} px ({args.model})"
    show(beside_reference("step", what, found, args.device), args.json)


if __name__ == "__main__":
    main()
