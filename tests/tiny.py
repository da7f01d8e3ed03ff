"""The smallest runs that still train: generated sites of a few patients, images of 32 pixels, one or two steps."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from typing import Any

from sammit import plugins
from sammit.config import Experiment
from sammit.data.phantom import DATASET_TOML, Look, draw_eye, write_png
from sammit.federation import local
from sammit.recipe import experiment_from

LOOKS = {
    "aster": Look(4, 40, 0.42, (1.25, 0.85, 0.55), 0.30, 1, 0.05, 0.7, 1.00),
    "birch": Look(3, 44, 0.62, (1.05, 1.00, 0.90), -0.28, 1, 0.05, 0.8, 0.72),
}

METHODS = [row["name"] for row in plugins.describe("methods") if "needs" not in row]
"""Every method that runs in Sammit's own environment; the others have tests of their own (`tests/nnunet`)."""


def make_sites(folder: Path) -> None:
    """Two sites in `folder`, two images of each patient, however the demo's own sites may be tuned."""
    for site, look in LOOKS.items():
        for patient, image in product(range(look.patients), range(2)):
            pixels, labels = draw_eye(look, (0, site, patient, image))
            write_png(folder / site / "images" / f"p{patient:02d}-{image}.png", pixels)
            write_png(folder / site / "masks" / f"p{patient:02d}-{image}.png", labels)
    (folder / "dataset.toml").write_text(DATASET_TOML)


def table(root: Path | str, method: str = "fedavg", **tables: dict[str, Any]) -> dict[str, Any]:
    """A recipe's tables; keys of `tables` are put over the defaults."""
    recipe: dict[str, dict[str, Any]] = {
        "data": {"root": str(root), "view": "whole", "size": 32},
        "model": {"adapter": adapters_of(method)},
        "method": {"name": method},
        "training": {"rounds": 2, "local_steps": 2, "batch_size": 2, "threads": 1, "lr": 2e-3},
        "evaluation": {},
    }
    return {"name": "tiny", **{key: {**values, **tables.get(key, {})} for key, values in recipe.items()}}


def adapters_of(method: str) -> list[str]:
    """The adapters that a method works on, or one that any can train."""
    if method == "pfedsam":
        return ["lora", "mixture"]
    needed = list(plugins.load("methods", method).Method.adapters)
    return needed or ["bottleneck"]


def experiment(root: Path, method: str = "fedavg", **tables: dict[str, Any]) -> Experiment:
    """The same as an experiment."""
    return experiment_from(table(root, method, **tables))


def recipe(path: Path, root: Path | str, method: str = "fedavg", **tables: dict[str, Any]) -> Path:
    """The same as a file."""
    import tomli_w

    path.write_text(tomli_w.dumps(table(root, method, **tables)))
    return path


def run(what: Experiment, out: Path, resume: bool = False) -> Path:
    """A whole run; returns its folder."""
    return local.run(what, out, lambda row: None, resume).path


def rows(out: Path) -> list[dict[str, Any]]:
    """The lines of `rounds.jsonl`."""
    return [json.loads(line) for line in (out / "rounds.jsonl").read_text().splitlines()]


def contents(out: Path) -> dict[str, Any]:
    """Every file of a run by its path: bytes, or what they say where they tell of time and memory."""
    found: dict[str, Any] = {}
    for path in sorted(file for file in out.rglob("*") if file.is_file()):
        name = str(path.relative_to(out))
        if name == "checkpoint/server.safetensors":
            found[name] = "holds seconds"
        elif name == "summary.json":
            summary = json.loads(path.read_text())
            found[name] = {key: value for key, value in summary.items() if key not in ("seconds", "peak_rss_bytes")}
        elif name == "rounds.jsonl":
            found[name] = [{k: v for k, v in row.items() if k != "seconds"} for row in rows(out)]
        else:
            found[name] = path.read_bytes()
    return found


__all__ = ["LOOKS", "METHODS", "contents", "experiment", "make_sites", "recipe", "rows", "run", "table"]
