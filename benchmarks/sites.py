"""Peak memory of simulated sites of ViT-B with LoRA: many sites share one backbone.

    python -m benchmarks.sites [--many 10] [--size 256] [--json]

Each side is a whole run in a process of its own: one round, one step a site, batch 1, random weights, generated data.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path

from benchmarks.measure import apart, machine, show


def one(sites: int, size: int) -> dict[str, float]:
    """A run of `sites` sites in this process."""
    from sammit.config import experiment_from
    from sammit.data.phantom import DEMO, write_sites
    from sammit.federation.local import run
    from sammit.runs import peak_memory

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "sites"
        look = replace(DEMO["cedar"], patients=3)
        write_sites(root, {f"site-{index:03d}": look for index in range(sites)}, 0)
        table = {
            "data": {"root": str(root), "view": "whole", "size": size, "cache": str(Path(folder) / "cache")},
            "model": {"name": "sam-vit-b", "weights": "random", "adapter": "lora", "output_stride": 4},
            "training": {"rounds": 1, "local_steps": 1, "batch_size": 1},
        }
        run(experiment_from(table), Path(folder) / "run", lambda row: None)
        return {"peak_bytes": peak_memory()}


def main() -> None:
    """Measure both sides in fresh processes and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--many", type=int, default=10)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--inner", type=int, default=0, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.inner:
        print(json.dumps(one(args.inner, args.size)))
        return
    single, many = (
        apart("benchmarks.sites", "--size", str(args.size), "--inner", str(n))["peak_bytes"] for n in (1, args.many)
    )
    show(
        {
            "name": "sites",
            "one_site_MiB": round(single / 2**20),
            f"{args.many}_sites_MiB": round(many / 2**20),
            "ratio": round(many / single, 3),
            "machine": machine(),
        },
        args.json,
    )


if __name__ == "__main__":
    main()
