"""What a picture shows is what was scored."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import tiny
from sammit.federation.pictures import CasePictures
from sammit.vocabulary import Case, Loaded, Part


class OneVolume:
    """A site of one volume of three slices; the middle one has most truth."""

    name, structures = "a", ("disc",)
    case = Case("a", "v", "v", (Path("v"),), volume=True)

    def cases(self, part: Part) -> list[Case]:
        return [self.case]

    def load(self, case: Case) -> Loaded:
        truth = np.zeros((3, 600, 8, 1), bool)
        truth[0, :4], truth[1, :40] = True, True
        return Loaded(case, np.zeros((3, 600, 8, 3), np.uint8), truth)


def dice(found: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    """Of one image, small as a picture shows it; 1 where both are empty."""
    total = int(found.sum() + truth.sum())
    return 2 * int((found & truth).sum()) / total if total else 1.0


@pytest.mark.parametrize("method", ["fedavg", "pfedsam"])
def test_masks_are_the_scored_ones(runs: dict[str, Path], method: str) -> None:
    """A tiny case's picture is whole, so its own masks give the Dice of its row, for every judged model."""
    files = sorted((runs[method] / "pictures").glob("*/*.npz"))
    assert {file.stem for file in files} == {"best", "median", "worst", "example"}
    rows = list(csv.DictReader((runs[method] / "cases.csv").read_text().splitlines()))
    models: list[str] = []
    for file in files:
        with np.load(file) as picture:
            case, structures = str(picture["case"]), picture["structures"].tolist()
            models = [name for name in picture.files if name not in ("image", "truth", "case", "structures", "dice")]
            for model, told in zip(models, picture["dice"], strict=True):
                own = {
                    row["structure"]: float(row["dice"])
                    for row in rows
                    if (row["site"], row["case"], row["model"]) == (file.parent.name, case, model)
                }
                assert np.mean(list(own.values())) == pytest.approx(float(told))
                for index, structure in enumerate(structures):
                    assert dice(picture[model][index], picture["truth"][index]) == pytest.approx(own[structure])
    assert len({"global", "personal"} & set(models)) == (2 if method == "pfedsam" else 1)


def test_a_long_image_is_thinned_and_the_first_of_several_models_shown(tmp_path: Path) -> None:
    """The slice with most truth, every second row of 600; a second model of the same name changes nothing."""
    site = OneVolume()
    loaded = site.load(site.case)
    pictures = CasePictures(site)  # type: ignore[arg-type]
    found = np.random.default_rng(0).random((3, 600, 8, 1)) > 0.5
    pictures.see("sources", loaded, found)
    pictures.see("sources", loaded, ~found)
    pictures.write(tmp_path, {"sources": {"v": 0.5}}, "sources")
    with np.load(tmp_path / "pictures" / "example.npz") as picture:
        assert picture["sources"].shape == (1, 300, 4)
        assert (picture["sources"] == found[1].transpose(2, 0, 1)[:, ::2, ::2]).all()
        assert picture["dice"].tolist() == [0.5]


def test_fedfms_shows_the_logits_it_scored(sites: Path, tmp_path: Path) -> None:
    """Its pictures are of masks in native geometry too."""
    what = tiny.experiment(
        sites, "fedavg", data={"view": "whole"}, training={"rounds": 1}, evaluation={"protocol": "fedfms"}
    )
    run = tiny.run(what, tmp_path / "run")
    with np.load(next((run / "pictures").glob("*/best.npz"))) as picture:
        assert picture["global"].shape == picture["truth"].shape
