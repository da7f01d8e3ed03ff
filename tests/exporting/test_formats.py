"""Each format gives the run's logits, says what it is, and holds no path and no patient."""

from __future__ import annotations

import json
from pathlib import Path
from zipfile import ZipFile, is_zipfile

import pytest
import torch
from safetensors.torch import load_file

import tiny
from sammit.errors import UserError
from sammit.exporting import huggingface
from sammit.exporting.folder import export_run
from sammit.exporting.trained import load
from sammit.predict import load_predictor

IMAGES = torch.rand(5, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="session")
def plain(sites: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose model transformers can express: low-rank factors, logits as coarse as SAM's own."""
    model = {"adapter": ["lora"], "output_stride": 2}
    return tiny.run(tiny.experiment(sites, "fedavg", model=model), tmp_path_factory.mktemp("plain") / "run")


def native(run: Path, site: str = "") -> torch.Tensor:
    """The logits of `sammit predict`'s model."""
    with torch.inference_mode():
        return load_predictor(run, site).model(IMAGES)


def test_torchscript_gives_the_logits(runs: dict[str, Path], tmp_path: Path) -> None:
    """Of a personal model, for another number of images than it was traced with."""
    trained = export_run(runs["pfedsam"], "torchscript", tmp_path / "out", "aster")
    with pytest.warns(DeprecationWarning, match="torch.jit"):
        model = torch.jit.load(tmp_path / "out" / "model.ts")
    wanted = native(runs["pfedsam"], "aster")
    assert (model(IMAGES) - wanted).abs().max() < 1e-5 * max(1, wanted.abs().max())
    assert trained.site == "aster" and any("mixture: kept" in note for note in trained.notes)


def test_huggingface_gives_the_logits(plain: Path, tmp_path: Path) -> None:
    """As its README says: the first structure, then the others."""
    from transformers import SamModel

    export_run(plain, "huggingface", tmp_path / "out")
    model = SamModel.from_pretrained(tmp_path / "out").eval()
    facts = json.loads((tmp_path / "out" / "model.json").read_text())
    mean, std = (torch.tensor(facts[key]).view(3, 1, 1) for key in ("pixel_mean", "pixel_std"))
    pixels = (IMAGES - mean) / std
    with torch.inference_mode():
        first = model(pixel_values=pixels, multimask_output=False).pred_masks[:, 0]
        others = model(pixel_values=pixels, multimask_output=True).pred_masks[:, 0]
    found, wanted = torch.cat([first, others], dim=1)[:, :2], native(plain)
    assert found.shape == wanted.shape
    assert (found - wanted).abs().max() < 1e-4 * max(1, wanted.abs().max())
    assert (tmp_path / "out" / "README.md").read_text().startswith("---\nlibrary_name: transformers\n")


def test_huggingface_does_not_pretend(runs: dict[str, Path], tmp_path: Path) -> None:
    export_run(runs["pfedsam"], "huggingface", tmp_path / "out", "aster")
    text = (tmp_path / "out" / "README.md").read_text()
    assert "This is no `SamModel`" in text and "mixture" in text and "Detail head" in text
    assert not (tmp_path / "out" / "config.json").exists()
    assert len(huggingface.obstacles(load(runs["pfedsam"], "aster"))) == 2


def test_safetensors_rebuild_the_model(runs: dict[str, Path], tmp_path: Path) -> None:
    """With the adapters that the JSON names and no others."""
    from dataclasses import replace

    from sammit.models.build import build_model

    run = runs["pfedsam"]
    export_run(run, "safetensors", tmp_path / "out", "birch")
    facts = json.loads((tmp_path / "out" / "model.json").read_text())
    config = load(run, "birch").run.experiment.model
    assert facts["model"]["adapters"] == ["mixture"]
    model = build_model(replace(config, adapter=("mixture",), weights="random"), 32, 2, 9).eval()
    model.load_state_dict(load_file(tmp_path / "out" / "model.safetensors"))
    with torch.inference_mode():
        assert (model(IMAGES) - native(run, "birch")).abs().max() < 1e-4


@pytest.mark.parametrize("form", ["torchscript", "monai-bundle", "safetensors", "huggingface"])
def test_nothing_of_the_run_leaks(form: str, runs: dict[str, Path], sites: Path, tmp_path: Path) -> None:
    export_run(runs["pfedsam"], form, tmp_path / "out", "aster")
    assert_nothing_leaks(tmp_path / "out", sites)


def assert_nothing_leaks(out: Path, sites: Path) -> None:
    """No folder of this machine, no patient and no case in any file, nor in what an archive holds."""
    stems = {path.stem for path in sites.glob("*/images/*.png")}
    words = [str(sites), str(Path(__file__).parents[2]), str(Path.home()), "site-packages/", *stems]
    for path in (file for file in out.rglob("*") if file.is_file()):
        contents = [path.read_bytes()]
        if is_zipfile(path):
            with ZipFile(path) as archive:
                contents += [archive.read(name) for name in archive.namelist()]
        for word in words:
            assert not any(word.encode() in content for content in contents), (path, word)


def test_the_card_has_the_runs_numbers(runs: dict[str, Path], tmp_path: Path) -> None:
    export_run(runs["pfedsam"], "torchscript", tmp_path / "out", "aster")
    text = (tmp_path / "out" / "CARD.md").read_text()
    entry = json.loads((runs["pfedsam"] / "summary.json").read_text())["sites"]["aster"]
    dice = entry["models"]["personal"]["disc"]["dice"]
    assert f"| aster | disc | {entry['cases']} | {entry['patients']} | {dice['mean']:.3f}" in text
    assert "| birch |" not in text and "not a medical device" in text and "reconstruction" in text


def test_what_cannot_be_written_leaves_nothing(runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from sammit.exporting import onnx

    monkeypatch.setattr(onnx, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"install them: pip install \"sammit\[export\]\""):
        export_run(runs["pfedsam"], "onnx", tmp_path / "out", "aster")
    assert not list(tmp_path.iterdir())
