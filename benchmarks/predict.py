"""Masks of a volume by ViT-B, whole slices at the model's size: seconds a slice, against transformers' eager encoder.

    python -m benchmarks.predict [--size 1024] [--slices 2] [--repeat 3] [--device cpu] [--json]

Each side is a process of its own: the way of `sammit predict`, in inference mode, several slices at once where they are
small. The first volume is not counted; the time is the median of the others, the memory the process's peak (of the GPU,
what was allocated there at most). `ours` is bf16.
"""

from __future__ import annotations

import argparse
import json
from statistics import median

from benchmarks.eager import RETURNING, SIDES, beside_reference, built, peak_bytes, waited
from benchmarks.measure import apart, show

USED = [side for side, (_, checkpointing) in SIDES.items() if not checkpointing and side != RETURNING]


def one(side: str, name: str, size: int, slices: int, repeat: int, device: str) -> dict[str, float]:
    """One side in this process."""
    import numpy as np

    from sammit.geometry import View
    from sammit.learning.inference import segment

    model, _ = built(side, name, size, device)
    volume = np.random.default_rng(0).integers(0, 256, (slices, size, size, 3), np.uint8)
    seconds = []
    for _ in range(repeat + 1):
        started = waited(device)
        masks = segment(model, volume, View("whole", size), device)
        seconds.append((waited(device) - started) / slices)
    share = float(masks.mean())
    return {"seconds": median(seconds[1:]), "peak_bytes": peak_bytes(device), "check": share}


def main() -> None:
    """Every side in a fresh process; ratios to the reference."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="sam-vit-b", help="sam-tiny tries the script in seconds")
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--slices", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--inner", choices=USED, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.inner:
        print(json.dumps(one(args.inner, args.model, args.size, args.slices, args.repeat, args.device)))
        return
    same = ("--model", args.model, "--size", str(args.size), "--slices", str(args.slices), "--repeat", str(args.repeat))
    found = {side: apart("benchmarks.predict", *same, "--device", args.device, "--inner", side) for side in USED}
    what = f"a slice at {args.size} px ({args.model})"
    show(beside_reference("predict", what, found, args.device), args.json)


if __name__ == "__main__":
    main()
