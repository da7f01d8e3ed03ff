"""A user's mistake is one line that names the thing and the mend, exit code 2, and nothing half-written."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

import tiny

Mistake = Callable[..., str]


@pytest.fixture
def here(tmp_path: Path, sites: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with sites that a test may spoil, and a recipe for them."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(sites, tmp_path / "sites")
    tiny.recipe(tmp_path / "recipe.toml", "sites", data={"size": 16})
    return tmp_path


def files(folder: Path) -> set[Path]:
    """Everything in a folder."""
    return set(folder.rglob("*"))


def first(here: Path, kind: str) -> Path:
    """The first file of a site."""
    return min((here / "sites" / "birch" / kind).iterdir())


def no_dataset(here: Path) -> None:
    """A folder of a site without images."""
    shutil.rmtree(here / "sites" / "birch" / "images")


def mask_without_image(here: Path) -> None:
    """A mask that belongs to nothing."""
    first(here, "images").unlink()


def image_without_mask(here: Path) -> None:
    """An image without its truth."""
    first(here, "masks").unlink()


def truncated(here: Path) -> None:
    """Pictures cut short."""
    for path in (here / "sites" / "birch" / "images").iterdir():
        path.write_bytes(path.read_bytes()[:300])


def another_size(here: Path) -> None:
    """Masks that do not lie on their images."""
    for path in (here / "sites" / "birch" / "masks").iterdir():
        with Image.open(path) as mask:
            small = mask.resize((10, 12))
        small.save(path)


def one_patient(here: Path) -> None:
    """Nobody left to validate and test on."""
    for path in (here / "sites" / "birch").rglob("p0[1-9]*.png"):
        path.unlink()


SPOILT = {
    no_dataset: "birch",
    mask_without_image: "there is no image for this mask",
    image_without_mask: "has no mask; add one",
    truncated: "birch/images/p0",
    another_size: "birch/",
    one_patient: "site 'birch' has 1 patient",
}


@pytest.mark.parametrize("spoil", SPOILT, ids=lambda spoil: spoil.__name__)
def test_data_that_is_not_right(here: Path, mistake: Mistake, spoil: Callable[[Path], None]) -> None:
    """Found before a run folder is made."""
    spoil(here)
    before = files(here)
    assert SPOILT[spoil] in mistake("run", "recipe.toml", "--out", "out")
    assert files(here) == before


WRONG = {
    ("run", "nowhere.toml"): "nowhere.toml: there is no such file",
    ("run", "sites"): "sites: cannot be read",
    ("run", "recipe.toml", "--set", "training.round=3"): "unknown key 'training.round': did you mean 'rounds'?",
    ("run", "recipe.toml", "--set", "training=3"): "training: must be a table",
    ("run", "recipe.toml", "--set", "rounds"): "--set rounds: must be TABLE.KEY=VALUE",
    ("run", "recipe.toml", "--set", "training.rounds=many"): "training.rounds: must be a whole number",
    ("run", "recipe.toml", "--set", "training.rounds=0"): "training.rounds: must be at least 1",
    ("run", "recipe.toml", "--set", "method.name=pfedsan"): "unknown method 'pfedsan': did you mean 'pfedsam'?",
    ("run", "recipe.toml", "--set", "method.shared=full"): "unknown key 'method.shared'",
    ("run", "recipe.toml", "--set", "model.name=sam-tyni"): "unknown model 'sam-tyni': did you mean 'sam-tiny'?",
    ("run", "recipe.toml", "--set", "model.adapter=['lorra']"): "unknown adapter 'lorra': did you mean 'lora'?",
    ("run", "recipe.toml", "--set", "data.size=20"): "data.size: 20 is not a multiple of",
    ("run", "recipe.toml", "--set", "data.sites=['brich']"): "did you mean 'birch'?",
    ("run", "recipe.toml", "--set", "evaluation.unseen=['brich']"): "did you mean 'birch'?",
    ("run", "recipe.toml", "--data", "nowhere"): "nowhere: there is no such folder",
    ("run", "recipe.toml", "--data", "recipe.toml"): "recipe.toml: there is no such folder",
    ("run", "recipe.toml", "--resume", "--out", "new"): "new: is no run folder",
    ("run", "recipe.toml", "--out", "sites"): "sites: is not empty; choose another --out, or add --resume",
    ("run", "recipe.toml", "--out", "recipe.toml/run"): "recipe.toml: is a file; choose another --out",
    ("run", "recipe.toml", "--out", "recipe.toml"): "recipe.toml: is a file; choose another --out",
    ("run", "recipe.toml", "--foo"): "No such option",
    ("run",): "RECIPE: is missing; name one, or a run for a new site to join: --from RUN --site NEW",
    ("predict", "sites", "sites/birch/images", "--out", "new"): "sites: is no run folder",
    ("evaluate", "nowhere", "--data", "sites"): "nowhere: is no run folder",
    ("evaluate", "--data", "sites"): "evaluate: name a run (maybe with --site), or --masks FOLDER",
    (
        "evaluate",
        "sites",
        "--masks",
        "sites",
        "--data",
        "sites",
    ): "evaluate: name a run (maybe with --site), or",
    ("evaluate", "--masks", "nowhere", "--data", "sites/birch"): "nowhere: there is no such folder; name the folder",
    ("evaluate", "--masks", "sites", "--data", "sites/birch"): "sites/birch: holds no mask of site 'birch'",
    ("report", "nowhere"): "nowhere: there is no such run folder",
    ("report", "sites"): "summary.json: there is no such file",
    ("data", "check", "nowhere"): "nowhere: there is no such folder",
    ("data", "phantom", "sites"): "sites: is not empty",
    ("demo", "--out", "sites"): "sites: is not empty",
    ("weights", "fetch", "sam-vit-x"): "no published weights named 'sam-vit-x': did you mean",
    ("weights", "check", "nowhere.pth"): "nowhere.pth: there is no such file",
    ("list", "method"): "Invalid value",
    ("rnu",): "No such command 'rnu'",
}


@pytest.mark.parametrize("command", WRONG, ids=" ".join)
def test_commands_that_are_not_right(here: Path, mistake: Mistake, command: tuple[str, ...]) -> None:
    """Refused with the mend; nothing is written."""
    before = files(here)
    assert WRONG[command] in mistake(*command)
    assert files(here) == before


@pytest.mark.parametrize("name", ["sam_vit_b_01ec64.pth", "medsam_vit_b.pth"])
def test_a_checkpoint_with_the_wrong_hash(here: Path, mistake: Mistake, name: str) -> None:
    """A file with a published name and other bytes is refused."""
    (here / name).write_bytes(b"not what was published")
    model = "medsam-vit-b" if name.startswith("medsam") else "sam-vit-b"
    said = mistake("run", "recipe.toml", "--set", f"model.name={model}", "--set", f"model.weights={here / name}")
    assert name in said
    assert not (here / "runs").exists()


def test_weights_that_are_cut_short_or_missing(here: Path, mistake: Mistake) -> None:
    """Named, with the mend."""
    (here / "mine.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{}")
    assert "mine.safetensors: damaged" in mistake("run", "recipe.toml", "--set", "model.weights=mine.safetensors")
    assert "there is no such file of weights" in mistake("run", "recipe.toml", "--set", "model.weights=no.pth")


@pytest.fixture
def finished(tmp_path: Path, runs: dict[str, Path]) -> Path:
    """A finished run that a test may spoil."""
    return Path(shutil.copytree(runs["fedavg"], tmp_path / "finished"))


def test_use_of_a_run_that_is_not_finished(here: Path, finished: Path, mistake: Mistake) -> None:
    """With the command that goes on with it."""
    (finished / "summary.json").unlink()
    said = mistake("predict", finished, "sites/birch/images", "--out", "masks")
    assert f"the run is not finished; go on with it: sammit run RECIPE --out {finished} --resume" in said


def test_use_of_a_run_by_a_site_it_does_not_have(here: Path, finished: Path, mistake: Mistake) -> None:
    """The nearest known name."""
    assert "did you mean 'birch'?" in mistake("predict", finished, "sites", "--out", "masks", "--site", "brich")


def test_images_that_are_none(here: Path, finished: Path, mistake: Mistake) -> None:
    """A text with a picture's name, a text, a missing file, an empty folder."""
    (here / "fake.png").write_text("no picture")
    (here / "empty").mkdir()
    for path, reason in {
        "fake.png": "fake.png",
        "recipe.toml": "recipe.toml",
        "missing.png": "missing.png: there is no such file",
        "empty": "empty: no image of a known format",
    }.items():
        assert reason in mistake("predict", finished, path, "--out", "masks")
        assert not (here / "masks").exists()


def test_masks_in_a_form_that_does_not_fit(here: Path, finished: Path, mistake: Mistake) -> None:
    """Nothing is written."""
    for asked, reason in {
        ("--format", "dicom-seg"): "is no DICOM image, and a DICOM SEG belongs to one; choose --format nifti or auto",
        ("--format", "nrrd"): "does not say where in the patient it lies, as nrrd does; choose auto or png",
        ("--format", "nift"): "--format nift: there is no such format: did you mean 'nifti'?",
        ("--series", "axial"): "holds no DICOM series for --series to choose from; leave it out",
    }.items():
        assert reason in mistake("predict", finished, "sites/birch/images", "--out", "masks", *asked)
        assert not (here / "masks").exists()


@pytest.mark.parametrize("name", ["sites.json", "models/global.safetensors", "config.toml", "summary.json"])
def test_a_damaged_run(here: Path, finished: Path, mistake: Mistake, name: str) -> None:
    """The file is named."""
    (finished / name).write_bytes((finished / name).read_bytes()[:10])
    if name != "summary.json":
        assert name in mistake("predict", finished, "sites/birch/images", "--out", "masks")
        assert not (here / "masks").exists()
    else:
        assert name in mistake("report", finished)


def test_a_run_whose_method_is_no_file_here(runs: dict[str, Path], tmp_path: Path, mistake: Mistake) -> None:
    """It was a class given from Python, which no other process knows."""
    shutil.copytree(runs["fedavg"], tmp_path / "run")
    config = tmp_path / "run" / "config.toml"
    config.write_text(config.read_text().replace('name = "fedavg"', 'name = "own_decoder"'))
    said = mistake("predict", tmp_path / "run", tmp_path, "--out", tmp_path / "masks")
    assert said.startswith(f"{tmp_path / 'run'}: its method 'own_decoder' is no file") and "method=CLASS" in said
