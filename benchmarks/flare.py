"""What NVIDIA FLARE costs beside training: a real server and two real sites on loopback, with certificates.

    python -m benchmarks.flare [--rounds 6] [--json]
    python -m benchmarks.flare --whole [--json]

ViT-B with random weights takes one step of one generated image at 64 px a round. The update is that of LoRA and the
decoder, about 17 MB; with --whole it is the whole model's, 375 MB. "ours" is the median over rounds of the server's
seconds for a round less those that the slowest site worked on its order; "reference" is what it is to stay under.
The server's memory is the highest resident set of the process that leads the run; the libraries' own, as it is before
the first tensor, stands beside it.
"""

from __future__ import annotations

import argparse
import json
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.measure import machine, show

SITES = ("aster", "birch")
BAR = 2.0
"""Seconds a round that an engine may take beside training."""


def federation(folder: Path) -> Path:
    """Kits, data and settings of two sites; the folder of kits."""
    from sammit.data.phantom import Look, write_sites
    from sammit.federation.flare.kit import Project, kits_of, provision, write_project

    look = Look(3, 40, 0.42, (1.25, 0.85, 0.55), 0.30, 1, 0.05, 0.7, 1.00)
    write_sites(folder / "sites", dict.fromkeys(SITES, look), 0)
    with socket.socket() as found:
        found.bind(("localhost", 0))
        port = int(found.getsockname()[1])
    write_project(folder, Project("bench", "localhost", SITES, port))
    provision(folder / "project.yml", folder / "kits")
    return kits_of(folder)


def recipe(whole: bool, rounds: int) -> dict[str, Any]:
    """One step of ViT-B a round at each site, nothing validated."""
    model = {"name": "sam-vit-b", "weights": "random"}
    model |= {"train": "all", "adapter": []} if whole else {"adapter": ["lora"]}
    return {
        "name": "flare",
        "data": {"view": "whole", "size": 64},
        "model": model,
        "method": {"name": "fedavg"},
        "training": {"rounds": rounds, "local_steps": 1, "batch_size": 1, "threads": 1, "optimiser_state": "reset"},
        "evaluation": {"every": 0, "selection": "last", "scored": "val"},
    }


@contextmanager
def watched(server: Any) -> Iterator[dict[str, list[int]]]:
    """Resident bytes of the process that leads a run, every 50 ms."""
    import psutil

    found: dict[str, list[int]] = {"resident": []}
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.05):
            try:
                for child in psutil.Process(server.pid).children(recursive=True):
                    if "runner_process" in " ".join(child.cmdline()):
                        found["resident"].append(child.memory_info().rss)
            except psutil.Error:
                continue

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        over.set()
        thread.join()


def worked(home: Path) -> dict[int, float]:
    """round -> seconds that a site worked on its order to train, as its own log says."""
    lines = [json.loads(line) for line in (home / "audit.jsonl").read_text().splitlines()]
    return {line["round"]: line["seconds"] for line in lines if line["what"] == "answers" and line["kind"] == "train"}


def measured(folder: Path, whole: bool, rounds: int) -> dict[str, Any]:
    """One run; what it took."""
    from sammit.federation.flare import admin
    from sammit.federation.flare.job import Job
    from sammit.federation.flare.rehearsal import rehearse
    from sammit.recipe import experiment_from

    kits = federation(folder)
    with rehearse(kits, folder / "sites", folder, "cpu") as party, watched(party.processes["localhost"]) as memory:
        with admin.lead_session(folder, 60) as session:
            while admin.connected(session) != sorted(SITES):
                time.sleep(0.2)
            job = Job("bench", experiment_from(recipe(whole, rounds)), SITES)
            problem = admin.carried(session, job, lambda row: None)
        if problem:
            raise SystemExit(problem)
    run = kits / "localhost" / "runs" / "bench"
    rows = [json.loads(line) for line in (run / "rounds.jsonl").read_text().splitlines()]
    sites = [worked(folder / "homes" / site) for site in SITES]
    beside = [row["seconds"] - max(site[row["round"]] for site in sites) for row in rows]
    size = max(max(row["up_bytes"].values()) for row in rows)
    return {
        "beside": beside,
        "rounds": [round(row["seconds"], 2) for row in rows],
        "update": size,
        "before": base_of(memory["resident"]),
        "peak": max(memory["resident"]),
    }


def base_of(resident: list[int]) -> int:
    """What a process that has everything imported takes before the first large tensor: where it first stays level."""
    level = [now for now, then in zip(resident[20:], resident, strict=False) if abs(now - then) < 1 << 20]
    return level[0] if level else resident[-1]


def main() -> None:
    """One run, and its figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--whole", action="store_true", help="the whole model travels: 375 MB an update")
    parser.add_argument("--rounds", type=int, default=0, help="6, or 2 with --whole")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measured(Path(folder), args.whole, args.rounds or (2 if args.whole else 6))
    ours = median(found["beside"])
    show(
        {
            "name": "flare-whole" if args.whole else "flare",
            "ours": round(ours, 2),
            "reference": BAR,
            "ratio": round(ours / BAR, 2),
            "unit": "seconds a round beside training; the reference is the bar",
            "seconds_beside_training": [round(seconds, 2) for seconds in found["beside"]],
            "round_seconds": found["rounds"],
            "update_MB": round(found["update"] / 1e6, 1),
            "server_peak_MB": round(found["peak"] / 1e6),
            "server_before_MB": round(found["before"] / 1e6),
            "two_updates_and_model_MB": round(3 * found["update"] / 1e6),
            "machine": machine(),
        },
        args.json,
    )


if __name__ == "__main__":
    main()
