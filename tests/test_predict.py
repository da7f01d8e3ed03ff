"""What a run's folder alone can do: masks in each image's own geometry, and scores on other data."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

import tiny
from sammit.errors import UserError
from sammit.predict import evaluate, load_predictor, predict
from sammit.reporting.cases import read_cases


@pytest.fixture(scope="module")
def moved(runs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Finished runs elsewhere, nothing in them but models and settings, their data gone."""
    base = tmp_path_factory.mktemp("moved")
    for name in ("fedavg", "centralised", "local_only", "pfedsam"):
        shutil.copytree(runs[name], base / name, ignore=shutil.ignore_patterns("checkpoint", "pictures"))
        config = base / name / "config.toml"
        lines = ['root = "/nowhere"' if line.startswith("root") else line for line in config.read_text().splitlines()]
        config.write_text("\n".join(lines))
    return {path.name: path for path in base.iterdir()}


def opened(path: Path) -> Image.Image:
    """A picture in memory, its file closed."""
    with Image.open(path) as image:
        image.load()
        return image


def images(sites: Path) -> Path:
    """The pictures of a site."""
    return sites / "aster" / "images"


def test_pictures_get_masks_of_their_size(tmp_path: Path, sites: Path, moved: dict[str, Path]) -> None:
    """One PNG for each structure, 0 and 255; overlays on request; every file told of."""
    told: list[Path] = []
    written = predict(load_predictor(moved["fedavg"]), [images(sites)], tmp_path, overlay=True, tell=told.append)
    assert told == written and set(written) == set(tmp_path.iterdir())
    for path in images(sites).iterdir():
        size = opened(path).size
        for structure in ("disc", "cup"):
            mask = opened(tmp_path / f"{path.stem}_{structure}.png")
            assert (mask.size, mask.mode) == (size, "L")
            assert set(np.unique(np.asarray(mask))) <= {0, 255}
        overlay = opened(tmp_path / f"{path.stem}_overlay.png")
        assert (overlay.size, overlay.mode) == (size, "RGB")


def test_masks_are_those_that_were_scored(tmp_path: Path, sites: Path, moved: dict[str, Path]) -> None:
    """For every test case and model, the Dice of the written masks is the one in cases.csv; structures may overlap."""
    run = moved["pfedsam"]
    for site in ("", *tiny.LOOKS):
        out = tmp_path / (site or "global")
        predict(load_predictor(run, site), [sites / name / "images" for name in ([site] if site else ["aster"])], out)
        for row in read_cases(run / "cases.csv"):
            if (row.site, row.model) != ((site, "personal") if site else ("aster", "global")):
                continue
            found = np.asarray(opened(out / f"{row.case}_{row.structure}.png")) > 0
            labels = np.asarray(opened(sites / row.site / "masks" / f"{row.case}.png"))
            truth = labels == 2 if row.structure == "cup" else labels > 0
            dice = 2 * (found & truth).sum() / max(1, found.sum() + truth.sum())
            assert dice == pytest.approx(row.scores["dice"], abs=1e-9)


def test_a_site_s_own_model_differs_from_the_global_one(sites: Path, moved: dict[str, Path]) -> None:
    """And says which it is."""
    import torch

    models = {site: load_predictor(moved["pfedsam"], site) for site in ("", *tiny.LOOKS)}
    assert [model.which for model in models.values()] == ["global", "personal", "personal"]
    pixels = torch.rand(1, 3, 32, 32)
    with torch.inference_mode():
        logits = [model.model(pixels) for model in models.values()]
    assert all(not torch.equal(one, other) for i, one in enumerate(logits) for other in logits[:i])


def test_a_method_without_a_global_model_asks_for_the_site(moved: dict[str, Path]) -> None:
    """And names the sites there are."""
    with pytest.raises(UserError, match=r"local_only has no global model; choose .* --site \(aster, birch\)"):
        load_predictor(moved["local_only"])
    assert load_predictor(moved["local_only"], "birch").which == "personal"


@pytest.mark.parametrize("method", ["fedavg", "centralised"])
def test_a_site_without_a_model_of_its_own_uses_the_global_one(moved: dict[str, Path], method: str) -> None:
    """Its images are read in its own way all the same."""
    assert load_predictor(moved[method], "birch").which == "global"


def test_volumes_keep_their_affine_and_shape(tmp_path: Path, moved: dict[str, Path]) -> None:
    """Oblique, anisotropic, cut along an axis that is not the last."""
    angle = 0.3
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([0.7, 4.0, 0.8])
    affine[:3, 3] = (-30, 12, 7.5)
    values = np.random.default_rng(0).normal(100, 40, (20, 5, 24)).astype(np.float32)
    for suffix in ("nii", "nii.gz"):
        nibabel.save(nibabel.Nifti1Image(values, affine), tmp_path / f"scan-{suffix[-2:]}.{suffix}")
    paths = sorted(tmp_path.glob("scan*"))
    predict(load_predictor(moved["fedavg"]), paths, tmp_path / "out", overlay=True)
    for path in paths:
        for structure in ("disc", "cup"):
            mask = nibabel.load(tmp_path / "out" / f"{path.name.partition('.')[0]}_{structure}.nii.gz")
            assert mask.shape == values.shape
            assert np.allclose(mask.affine, nibabel.load(path).affine)
            assert set(np.unique(np.asarray(mask.dataobj))) <= {0, 1}
    assert len(list((tmp_path / "out").iterdir())) == 6


def test_scores_on_other_data(tmp_path: Path, moved: dict[str, Path]) -> None:
    """A row for each case and structure of every site, by the chosen model."""
    from sammit.data.phantom import write_sites

    root = tmp_path / "other"
    write_sites(root, {"cedar": tiny.LOOKS["birch"]}, 5)
    rows = evaluate(moved["pfedsam"], root, "aster")
    assert len(rows) == 2 * len(list((root / "cedar" / "images").iterdir()))
    assert {row["model"] for row in rows} == {"personal"} and {row["site"] for row in rows} == {"cedar"}
    assert all(0 <= row["iou"] <= row["dice"] <= 1 for row in rows)
    assert {row["model"] for row in evaluate(moved["pfedsam"], root / "cedar")} == {"global"}


def test_other_base_weights_are_refused(tmp_path: Path, runs: dict[str, Path]) -> None:
    """A model is what it was trained from and what was trained."""
    run = Path(shutil.copytree(runs["fedavg"], tmp_path / "run"))
    config = run / "config.toml"
    config.write_text(config.read_text().replace('weights = "pretrained"', 'weights = "random"'))
    with pytest.raises(UserError, match=r"other base weights than model\.weights gives now"):
        load_predictor(run)


def test_the_last_round_s_model_is_there_too(runs: dict[str, Path]) -> None:
    """Beside the selected one, with its round."""
    from sammit.runs import read_state

    facts = {name: read_state(runs["fedavg"] / "models" / f"{name}.safetensors")[1] for name in ("global", "last")}
    assert facts["last"]["round"] == 1
    assert facts["global"]["round"] == json.loads((runs["fedavg"] / "summary.json").read_text())["selected_round"]
