"""Run as a program, the process of one row of a study of costs: build the run, take a few steps, measure.

row.main() with the arguments RECIPE FOLDER MEASURE, the last as JSON
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from itertools import product
from math import ceil
from pathlib import Path

from sammit.config import Experiment
from sammit.data.phantom import DATASET_TOML, DEMO, draw_eye, write_png
from sammit.errors import UserError
from sammit.federation.prepare import prepare
from sammit.files import write_atomically
from sammit.recipe import load_experiment
from sammit.runs import RunFolder
from sammit.study.costs.measure import measured
from sammit.study.schema import Measure
from sammit.toml import build, to_toml


def main() -> None:
    """Measure one row and leave `config.toml` and `cost.json` in its folder."""
    recipe, folder, settings = sys.argv[1:]
    try:
        measure_row(load_experiment(Path(recipe)), Path(folder), build(Measure, json.loads(settings), "measure"))
    except (UserError, OSError) as error:
        sys.exit(f"error: {error}")


def measure_row(experiment: Experiment, folder: Path, settings: Measure) -> None:
    """Measure an experiment.

    Args:
        experiment: with `data.root`, or without: then sites are generated in the folder, and `settings.samples` says
            how many training images each of them stands for.
        folder: for the row.
        settings: `[measure]`.

    Raises:
        UserError: as `prepare`.
    """
    samples = None
    if not experiment.data.root:
        samples = settings.samples
        root = generate(folder / "sites", experiment.data.size, len(samples))
        experiment = replace(experiment, data=replace(experiment.data, root=str(root)))
    prepared = prepare(experiment)
    write_atomically(folder / "config.toml", to_toml(prepared.experiment))
    cost = measured(prepared, settings.steps, samples)
    RunFolder(folder, prepared.experiment).write_json("cost.json", cost)


def generate(root: Path, side: int, sites: int) -> Path:
    """Sites of three patients, an image of `side` x `side` pixels each; returns the folder of sites.

    Small images are enlarged: what an image shows costs nothing, and drawing a large one takes a minute.
    """
    for site, patient in product(range(1, sites + 1), range(3)):
        pixels, labels = draw_eye(DEMO["aster"], ("costs", site, patient))
        for kind, small in (("images", pixels), ("masks", labels)):
            factor = ceil(side / min(small.shape[:2]))
            large = small.repeat(factor, 0).repeat(factor, 1)[:side, :side]
            write_png(root / f"site-{site}" / kind / f"p{patient:02d}-0.png", large)
    write_atomically(root / "dataset.toml", DATASET_TOML)
    return root
