"""Sammit from Python: the command line's own path, quiet, light to import, and clear about mistakes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import sammit
import tiny
from sammit.methods import base, fedprox
from sammit.models.adapters.base import BlockAdapter, BlockOptions
from sammit.reporting.cases import read_cases


class OwnDecoder(base.Method):
    """The encoder's adapters are averaged, each site keeps its decoder."""

    judged = ("global", "personal")
    reported = "personal"

    @dataclass(frozen=True)
    class Options(base.Options):
        stays: str = "mask_decoder."

    def shares(self, name: str) -> bool:
        return not name.startswith(self.options.stays)


class Pulled(fedprox.Method):
    """A file's method with its options."""


class Shift(BlockAdapter):
    """A learned shift beside the MLP."""

    @dataclass(frozen=True)
    class Options(BlockOptions):
        scale: float = 1.0

    def __init__(self, width: int, options: Options) -> None:
        import torch

        super().__init__()
        self.scale, self.shift = options.scale, torch.nn.Parameter(torch.zeros(width))

    def beside_mlp(self, tokens: Any) -> Any:
        return self.scale * self.shift.expand_as(tokens)


SHORT = {"training": {"rounds": 1, "local_steps": 1}}


def test_import_loads_nothing_heavy() -> None:
    """Nor does opening a run to read its scores load torch."""
    code = (
        "import sys, sammit; light = set(sys.modules); assert dir(sammit) and sammit.load and sammit.run\n"
        "assert not {'numpy', 'typer', 'sammit.config'} & light, light\n"
        "assert not {'torch', 'transformers', 'monai', 'matplotlib'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_run_is_that_of_the_command_line(
    sites: Path, runs: dict[str, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """File for file, from tables, with overrides; quiet but for what `tell` is told."""
    told: list[str] = []
    table = tiny.table("/nowhere", training={"rounds": 7})
    run = sammit.run(
        table, data=sites, out=tmp_path / "run", settings={"training.rounds": 2}, report=False, tell=told.append
    )
    assert tiny.contents(run.path) == tiny.contents(runs["fedavg"])
    assert [line.partition(",")[0] for line in told] == ["round 1", "round 2"]
    assert capfd.readouterr() == ("", "")


def test_what_a_run_tells(runs: dict[str, Path]) -> None:
    """The rows of `cases.csv`, the summary, the rounds, by name."""
    run = sammit.load(runs["pfedsam"])
    assert run.sites == ("aster", "birch") and run.experiment.method.name == "pfedsam"
    rows = read_cases(run.path / "cases.csv")
    assert [(s.site, s.case, s.structure, s.model) for s in run.scores] == [
        (row.site, row.case, row.structure, row.model) for row in rows
    ]
    assert [(s.dice, s.hd95) for s in run.scores] == [(row.scores["dice"], row.scores["hd95"]) for row in rows]
    assert run.summary == json.loads((run.path / "summary.json").read_text())
    assert [row.number for row in run.rounds] == [0, 1] and run.report == run.path / "report.html"
    assert "| aster | global model |" in str(run) and repr(run) == f"Run('{run.path}')"


def test_masks_are_those_of_the_file(sites: Path, runs: dict[str, Path], tmp_path: Path) -> None:
    from sammit.predict import load_predictor, predict

    run = sammit.load(runs["pfedsam"])
    path = sites / "birch" / "images" / "p00-0.png"
    with Image.open(path) as image:
        masks = run.predict(np.asarray(image), site="birch")
    predict(load_predictor(run.path, "birch"), [path], tmp_path)
    assert list(masks) == ["disc", "cup"]
    for name, mask in masks.items():
        with Image.open(tmp_path / f"p00-0_{name}.png") as written:
            assert np.array_equal(mask, np.asarray(written) > 0)


@pytest.mark.slow
def test_a_class_of_one_s_own(sites: Path, tmp_path: Path) -> None:
    """Its options are checked, others' are left out; going on and masks need the class, scores do not."""
    recipe = tiny.table(sites, "fedprox", **SHORT)
    recipe["method"]["mu"] = 0.1
    out = tmp_path / "run"
    given: dict[str, Any] = {"method": OwnDecoder, "settings": {"method.stays": "mask_decoder."}, "report": False}
    run = sammit.run(recipe, out=out, **given)
    own, shared = (run.summary["parameters"][key] for key in ("local", "shared"))
    assert run.experiment.method.name == "own_decoder" and own > shared > 0
    assert run.predict(np.zeros((9, 12), np.uint8), site="birch")["cup"].shape == (9, 12)
    assert "was a class given from Python" in (out / "environment.json").read_text()
    again = sammit.run(recipe, out=out, resume=True, **given)
    assert again.scores == run.scores == sammit.load(out).scores
    with pytest.raises(sammit.UserError, match=r"'own_decoder' is no file of sammit.methods; put own_decoder.py"):
        sammit.load(out).predict(np.zeros((9, 12)))
    with pytest.raises(sammit.UserError, match=r"class Pulled: is 'pulled', and the run's method is 'own_decoder'"):
        sammit.load(out, method=Pulled)


@pytest.mark.slow
def test_classes_that_inherit_and_adapters(sites: Path, tmp_path: Path) -> None:
    settings = {"method.mu": 0.5, "model.adapter": ["shift"], "model.options.shift.scale": 2.0}
    recipe = tiny.table(sites, "fedprox", **SHORT)
    given: dict[str, Any] = {"method": Pulled, "adapters": [Shift]}
    run = sammit.run(recipe, out=tmp_path / "run", settings=settings, report=False, **given)
    assert run.experiment.method.options == {"mu": 0.5}
    names = [name for name, _ in sammit.load(run.path, **given).model().named_parameters()]
    assert sum(name.endswith("adapters.shift.shift") for name in names) > 0


def test_data_are_checked_as_a_recipe_reads_them(sites: Path, tmp_path: Path) -> None:
    root = tmp_path / "sites"
    shutil.copytree(sites, root)
    first = min((root / "birch" / "images").iterdir())
    first.write_bytes(b"no image")
    reports = {report.site: report for report in sammit.check(root, settings={"data.size": 64})}
    assert reports["aster"].problems == () and reports["aster"].patients == 4
    assert [line for line in reports["birch"].problems if str(first) in line]


class Fedavg(base.Method):
    """Has a file's name."""


MISTAKES: dict[str, Callable[[Path, dict[str, Path], Path], object]] = {
    r"recipe: is a int; give a TOML file": lambda s, r, o: sammit.run(3, out=o),  # type: ignore[arg-type]
    r"none\.toml: there is no such file": lambda s, r, o: sammit.run("none.toml", out=o),
    r"unknown key 'trainign': did you mean 'training'": lambda s, r, o: sammit.run({"trainign": {}}, out=o),
    r"settings: 'training' is a table; set its keys": lambda s, r, o: sammit.run(
        {}, out=o, settings={"training": {"rounds": 1}}
    ),
    r"settings: training\.rounds\.x: 'rounds' is a value": lambda s, r, o: sammit.run(
        tiny.table(s), out=o, settings={"training.rounds.x": 1}
    ),
    r"training\.rounds: must be a whole number, not '3'": lambda s, r, o: sammit.run(
        {}, out=o, settings={"training.rounds": "3"}
    ),
    r"nowhere: ": lambda s, r, o: sammit.run(tiny.table(s), data="nowhere", out=o),
    r"is not empty; choose another --out": lambda s, r, o: sammit.run(tiny.table(s), out=r["fedavg"]),
    r"is no run folder": lambda s, r, o: sammit.load(s),
    r"the run has no such site": lambda s, r, o: sammit.load(r["fedavg"]).model("nowhere"),
    r"class Fedavg: fedavg is a file of sammit\.methods already": lambda s, r, o: sammit.run({}, method=Fedavg),
    r"method: 'fedavg' is no class that inherits from": lambda s, r, o: sammit.run({}, method="fedavg"),  # type: ignore[arg-type]
    r"adapters: is a class; give a list of classes, \[Shift\]": lambda s, r, o: sammit.run({}, adapters=Shift),  # type: ignore[arg-type]
    r"class Shift: is 'shift' in a recipe, and model\.adapter = \[\] lacks it": lambda s, r, o: sammit.run(
        {}, adapters=[Shift]
    ),
    r"unknown key 'method\.stay': did you mean 'stays'": lambda s, r, o: sammit.run(
        tiny.table(s), out=o, method=OwnDecoder, settings={"method.stay": "x"}
    ),
    r"is not empty; choose another folder": lambda s, r, o: sammit.phantom(s),
}


@pytest.mark.parametrize("says", MISTAKES)
def test_mistakes_are_one_line(says: str, sites: Path, runs: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(sammit.UserError, match=says) as raised:
        MISTAKES[says](sites, runs, tmp_path / "out")
    assert "\n" not in str(raised.value) and not (tmp_path / "out").exists()


def test_a_run_that_is_not_finished(runs: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(runs["fedavg"], tmp_path / "run")
    (tmp_path / "run" / "summary.json").unlink()
    with pytest.raises(sammit.UserError, match="the run is not finished; go on with it"):
        sammit.load(tmp_path / "run")
