"""The server's round over many updates that lie on disk: memory in updates, time against reading their bytes.

    python -m benchmarks.aggregate [--updates 100] [--repeats 3] [--json]

An update has about 15 MB in 189 float32 tensors, as the decoder and adapters of ViT-B have; the first file stands for
each site in turn where the disk is short (--files). Ours is a whole round of FedAvg: every update is opened, checked
for names, shapes and NaN, and added up in float64; the disk is asked for the next file while one is used. The reference
reads the same files, one after another, and does nothing. Before each the files are dropped from the system's cache;
what both take from the cache stands beside. Each side is a process of its own; its memory is the highest resident set
above that before the round.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from benchmarks.measure import apart, machine, memory, reset_peak, show

SHAPES = [(768, 64), (64, 768)] * 12 + [(256, 2048), (2048, 256)] * 2 + [(256, 256)] * 9 + [(256,)] * 152
NAMES = [f"mask_decoder.part{index:03d}.weight" for index in range(len(SHAPES))]


def write(folder: Path, files: int) -> None:
    """Updates of random numbers."""
    import torch

    from sammit.runs import write_state

    for index in range(files):
        draw = torch.Generator().manual_seed(index)
        tensors = {f"tensors.{n}": torch.randn(s, generator=draw) for n, s in zip(NAMES, SHAPES, strict=True)}
        write_state(folder / f"{index:04d}.safetensors", tensors, {})


def uncached(paths: Iterable[Path]) -> None:
    """Drop files from the system's cache, where it can be asked to."""
    for path in paths:
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def read(paths: list[Path]) -> Callable[[], object]:
    """The reference."""

    def work() -> None:
        for path in paths:
            path.read_bytes()

    return work


def aggregate(paths: list[Path]) -> Callable[[], object]:
    """One round of FedAvg over updates in files; the server's own shared tensors are there before it."""
    import torch

    from sammit.config import EvaluationConfig, Experiment, TrainingConfig
    from sammit.federation.exchange import Delivery
    from sammit.federation.rounds import Progress, Rounds
    from sammit.federation.stored import stored
    from sammit.methods.base import Method, Server
    from sammit.vocabulary import Order, Update

    class Files:
        """A transport whose replies lie in files."""

        def exchange(self, orders: Iterable[Order]) -> Iterator[Delivery]:
            next_one = stored(paths[0])
            for index, (order, path) in enumerate(zip(orders, paths, strict=True)):
                tensors, extras = next_one
                next_one = stored(paths[(index + 1) % len(paths)])  # the disk is asked for it already
                update = Update(order.site, order.round, tensors, extras, 1 + index % 7, {"loss": 0.5, "steps": 1})
                yield Delivery(update, 0, path.stat().st_size)

    sites = tuple(f"site-{index:04d}" for index in range(len(paths)))
    template = {name: torch.zeros(shape) for name, shape in zip(NAMES, SHAPES, strict=True)}
    evaluation = EvaluationConfig(every=0, selection="last")
    experiment = Experiment(training=TrainingConfig(rounds=1), evaluation=evaluation)
    waiting = paths[0].parent / "waiting"
    rounds = Rounds(
        Method(), experiment, Files(), sites, sites, template, lambda new: None, lambda row: None, waiting
    )  # fmt: skip
    return lambda: rounds.run(Progress(Server(template)))


def one(side: str, folder: Path, updates: int) -> dict[str, float]:
    """One side in this process: with the files from disk, then from the cache."""
    import torch  # is in memory on both sides

    files = sorted(folder.glob("*.safetensors"))
    paths = [files[index % len(files)] for index in range(updates)]
    made = {"read": read, "aggregate": aggregate}[side]
    made(paths[:2])()  # what is imported and laid out once
    work = made(paths)
    uncached(files)
    reset_peak()
    before, started = memory()["resident"], perf_counter()
    work()
    seconds, peak = perf_counter() - started, memory()["peak"] - before
    started = perf_counter()
    work()
    return {"seconds": seconds, "cached": perf_counter() - started, "peak": peak, "threads": torch.get_num_threads()}


def main() -> None:
    """Both sides by turns in fresh processes; medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--updates", type=int, default=100)
    parser.add_argument("--files", type=int, default=0, help="different files; 0: one an update")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--inner", nargs=2, default=(), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.inner:
        print(json.dumps(one(args.inner[0], Path(args.inner[1]), args.updates)))
        return
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), args.files or args.updates)
        size = next(Path(folder).glob("*.safetensors")).stat().st_size
        runs: dict[str, list[dict[str, Any]]] = {"read": [], "aggregate": []}
        for _ in range(args.repeats):
            for side, found in runs.items():
                found.append(apart("benchmarks.aggregate", "--updates", str(args.updates), "--inner", side, folder))
    (theirs, theirs_cached, _), (ours, ours_cached, peak) = (
        [median(run[key] for run in found) for key in ("seconds", "cached", "peak")] for found in runs.values()
    )
    show(
        {
            "name": "aggregate",
            "ours": round(ours, 3),
            "reference": round(theirs, 3),
            "ratio": round(ours / theirs, 2),
            "unit": f"seconds for {args.updates} updates; the reference reads their bytes",
            "ratio_from_cache": round(ours_cached / theirs_cached, 2),
            "update_MiB": round(size / 2**20, 1),
            "peak_MiB": round(peak / 2**20, 1),
            "peak_in_updates": round(peak / size, 2),
            "threads": runs["aggregate"][0]["threads"],
            "machine": machine(),
        },
        args.json,
    )


if __name__ == "__main__":
    main()
