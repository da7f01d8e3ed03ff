"""The main job on generated sites: local-only, FedMSA and pFedSAM at equal steps, compared in one report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sammit.config import Experiment
from sammit.data.phantom import DEMO, write_sites
from sammit.errors import UserError
from sammit.federation.local import run
from sammit.recipe import experiment_from

COMMON: dict[str, Any] = {
    "data": {"view": "whole", "size": 64, "split": [0.2, 0.1, 0.7]},
    "training": {"rounds": 10, "local_steps": 16, "batch_size": 8, "lr": 1.5e-3, "optimiser_state": "keep"},
    "evaluation": {"every": 5, "selection": "last"},
}

METHODS: dict[str, dict[str, Any]] = {
    "local_only": {"method": {"name": "local_only"}, "model": {"adapter": "bottleneck"}},
    "fedmsa": {"method": {"name": "fedavg"}, "model": {"adapter": "bottleneck"}},
    # 110 steps in rounds and 50 in the last local stage: 160 a site in all, like the others' 16 a round.
    "pfedsam": {
        "method": {
            "name": "pfedsam",
            "shared": "full",
            "global_share": 0.8,
            "kd_weight": 0.1,
            "final_local_epochs": 25,
        },
        "model": {"adapter": ["lora", "mixture"], "mixture": {"width": 16}},
        "training": {"local_steps": 11, "adapter_lr": 4e-3},
    },
}

Tell = Callable[[str, dict[str, Any]], None]


def demo_experiment(name: str, root: Path, seed: int) -> Experiment:
    """The experiment behind one row of the demo's table."""
    own = METHODS[name]
    table = {table: {**COMMON.get(table, {}), **own.get(table, {})} for table in (*COMMON, "model", "method")}
    table["data"]["root"] = str(root)
    return experiment_from({**table, "name": name, "seed": seed})


def demo(out: Path, seeds: Sequence[int], tell: Tell) -> list[tuple[str, Path]]:
    """Make the sites, train every method with every seed, and return (method, run folder) pairs.

    The first seed's runs are `OUT/METHOD`, the others' `OUT/seed-N/METHOD`.

    Args:
        out: an empty or missing folder.
        seeds: at least one; sites and splits change with it too.
        tell: is called with a method's name and each finished row of its log.

    Raises:
        UserError: `out` holds something already, or the disk is full.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out}: is not empty; choose another --out or remove it")
    folders = []
    for place, seed in enumerate(seeds):
        base = out if place == 0 else out / f"seed-{seed}"
        write_sites(base / "sites", DEMO, seed)
        for name in METHODS:
            path = base / name
            run(demo_experiment(name, base / "sites", seed), path, lambda row, name=name: tell(name, row))  # type: ignore[misc]
            folders.append((name, path))
    return folders
