"""The studies that come with Sammit can be read, and say what their tables are about."""

from __future__ import annotations

from pathlib import Path

import pytest

from sammit.federation.prepare import make_method
from sammit.methods.stages import first_steps
from sammit.study.file import read_study
from sammit.study.plan import make_plan

STUDIES = [p for p in sorted((Path(__file__).parents[2] / "studies").glob("*.toml")) if not p.stem.endswith("-chosen")]


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_every_study_can_be_read(path: Path) -> None:
    """Every cell's recipe is right on its own."""
    study = read_study(path)
    assert study.name == path.stem and len(study.methods) > 1


def test_the_costs_of_fedfms(tmp_path: Path) -> None:
    """Both methods with both encoders at 1024 px, an image a step; random weights may stand in."""
    path = next(path for path in STUDIES if path.stem == "fedfms-table2")
    cells = make_plan(read_study(path, ["model.weights=random"]), None, tmp_path / "out").cells
    what = [(cell.experiment.model.name, cell.experiment.model.adapter) for cell in cells]
    assert what == [(name, adapter) for name in ("sam-vit-b", "sam-vit-l") for adapter in (("bottleneck",), ())]
    for cell in cells:
        experiment = cell.experiment
        assert (experiment.data.size, experiment.training.batch_size, experiment.model.weights) == (1024, 1, "random")


def test_rows_of_the_ablation_take_equal_steps() -> None:
    """40 a site, the last local stage among them; a row without one trains for four rounds more."""
    study = read_study(next(path for path in STUDIES if path.stem == "pfedsam-ablation"))
    for name in study.methods:
        experiment = study.example("nuclei", name)
        training, options = experiment.training, make_method(experiment).options
        last = 0.0
        if experiment.method.name == "pfedsam":
            local = training.local_steps - first_steps(training.local_steps, options.global_share)
            last = local * options.final_local_epochs
        assert training.rounds * training.local_steps + last == 40, name
