"""Memory of simulated sites of ViT-B with LoRA in one process: ten beside one, and a thousand in a row.

    python -m benchmarks.sites [--sites 1000] [--size 128] [--model sam-vit-b] [--device cuda] [--json]

Each side is a round of one step a site, batch 1, in a process of its own, over generated images and random weights,
through the run's own loop, messages and files; nothing is scored. The ratio is that of the peaks of ten sites and of
one. Of the many the resident set is told after 10, 100, 1,000 sites, all of it and the anonymous part alone: the rest
is mapped from files, which the system takes back when it needs room.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks.measure import apart, machine, memory, show

MARKS = (1, 10, 100, 1000, 10000)


@dataclass
class Watched:
    """A transport that notes the memory after some of the deliveries."""

    inner: Any
    after: dict[int, dict[str, int]] = field(default_factory=dict)

    def exchange(self, orders: Iterable[Any]) -> Iterator[Any]:
        for count, delivery in enumerate(self.inner.exchange(orders), 1):
            yield delivery
            if count in (*MARKS, len(self.inner.sites)):
                self.after[count] = memory()


def name_of(index: int) -> str:
    return f"site-{index:05d}"


def one(args: argparse.Namespace) -> dict[str, Any]:
    """A round of the first `args.sites` sites in this process."""
    from sammit.federation.in_process import InProcess
    from sammit.federation.local import make_workers
    from sammit.federation.prepare import prepare
    from sammit.federation.rounds import Progress, Rounds
    from sammit.recipe import experiment_from
    from sammit.runs import RunFolder

    cache = str(Path(args.root).with_name("cache"))
    names = [name_of(index) for index in range(args.sites)]
    table = {
        "data": {"root": args.root, "sites": names, "view": "whole", "size": args.size, "cache": cache},
        "model": {"name": args.model, "weights": "random", "adapter": "lora"},
        "training": {"rounds": 1, "local_steps": 1, "batch_size": 1, "device": args.device},
        "evaluation": {"every": 0, "selection": "last"},
    }
    with tempfile.TemporaryDirectory() as place:
        prepared = prepare(experiment_from(table))
        folder = RunFolder.create(Path(place) / "run", prepared.experiment)
        transport = Watched(InProcess(make_workers(folder, prepared)))
        trainers = tuple(site.name for site in prepared.trainers)
        rounds = Rounds(
            prepared.method,
            prepared.experiment,
            transport,
            trainers,
            trainers,
            prepared.template,
            lambda new: None,
            lambda row: None,
            folder.path / "waiting",
        )
        started = perf_counter()
        rounds.run(Progress(prepared.server))
        return {"peak": memory()["peak"], "after": transport.after, "seconds": perf_counter() - started}


def main() -> None:
    """One site, ten and many, each in a fresh process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sites", type=int, default=1000)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--model", default="sam-vit-b")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--root", default="", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.root:
        print(json.dumps(one(args)))
        return
    from sammit.data.phantom import DEMO, write_sites

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "sites"
        look = replace(DEMO["cedar"], patients=3)
        write_sites(root, {name_of(index): look for index in range(args.sites)}, 0)
        common = ["--size", str(args.size), "--model", args.model, "--device", args.device, "--root", str(root)]
        few, ten, many = (
            apart("benchmarks.sites", "--sites", str(n), *common) for n in (1, min(10, args.sites), args.sites)
        )
    after = {int(count): sizes for count, sizes in many["after"].items()}
    last = max(after)
    rows: dict[str, Any] = {
        "name": "sites",
        "ours": round(ten["peak"] / 2**20),
        "reference": round(few["peak"] / 2**20),
        "ratio": round(ten["peak"] / few["peak"], 3),
        "unit": "MiB at the peak, ten sites and one",
        "growth": round(after[last]["resident"] / after[min(10, last)]["resident"], 3),
        "seconds": round(many["seconds"], 1),
    }
    for count, sizes in after.items():
        rows[f"after_{count}_MiB"] = round(sizes["resident"] / 2**20)
        rows[f"after_{count}_anonymous_MiB"] = round(sizes["anonymous"] / 2**20)
    show({**rows, "machine": machine()}, args.json)


if __name__ == "__main__":
    main()
