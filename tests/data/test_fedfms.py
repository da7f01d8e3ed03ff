"""FedFMS's arrays: labels on a coarser grid, a structure in each channel, the val folders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sammit.config import DataConfig
from sammit.data import discover, open_sites
from sammit.data.check import check
from sammit.errors import UserError


def _site(folder: Path, channels: int = 2, kind: str = "uint8") -> Path:
    """Six images (32, 32, 3) for training and two for val, labels (8, 8, C); returns the folder."""
    for index in range(8):
        rng, prefix = np.random.default_rng(index), "val_" if index >= 6 else ""
        for name in ("data_npy", "label_npy"):
            (folder / f"{prefix}{name}").mkdir(parents=True, exist_ok=True)
        image, label = rng.integers(0, 256, (32, 32, 3)), rng.integers(0, 2, (8, 8, channels))
        np.save(folder / f"{prefix}data_npy" / f"img_{index}.npy", image.astype(kind))
        np.save(folder / f"{prefix}label_npy" / f"img_{index}.npy", label.astype(np.uint8))
    return folder


def test_channels_are_structures_on_the_image_s_grid(tmp_path: Path) -> None:
    folder = _site(tmp_path / "data_1024" / "data")
    (site,) = open_sites(DataConfig(root=str(folder.parent)), 0)
    assert site.layout == "fedfms" and site.structures == ("structure1", "structure2")
    assert [case.name for case in site.cases("val")] == ["img_6", "img_7"] and site.cases("test")
    loaded = site.load(site.all_cases[2])
    label = np.load(folder / "label_npy" / "img_2.npy")
    assert (
        loaded.image.shape == (1, 32, 32, 3) and (loaded.image[0] == np.load(folder / "data_npy" / "img_2.npy")).all()
    )
    assert (loaded.truth[0] == np.kron(label, np.ones((4, 4, 1))).astype(bool)).all()
    (report,) = check(DataConfig(root=str(folder)))
    assert not report.problems and report.cases == 8 and report.channels == (3,)


def test_the_disc_is_rim_and_cup(tmp_path: Path) -> None:
    folder = _site(tmp_path / "a")
    (folder / "dataset.toml").write_text("[structures]\ndisc = [1, 2]\ncup = 2\n")
    (site,) = discover(DataConfig(root=str(folder)))
    label = np.load(folder / "label_npy" / "img_0.npy").repeat(4, 0).repeat(4, 1) > 0
    truth = site.load(site.all_cases[0]).truth[0]
    assert (truth[..., 0] == label.any(axis=-1)).all() and (truth[..., 1] == label[..., 1]).all()
    (folder / "dataset.toml").write_text("[structures]\ndisc = 1\ncup = 3\n")
    (site,) = discover(DataConfig(root=str(folder)))
    with pytest.raises(UserError, match=r"img_0\.npy: has 2 channels, numbered from 1; .* 'cup' is"):
        site.load(site.all_cases[0])


def test_one_channel_keeps_its_labels(tmp_path: Path) -> None:
    folder = _site(tmp_path / "a", channels=1)
    np.save(folder / "label_npy" / "img_0.npy", np.full((8, 8, 1), 2, np.uint8))
    (site,) = discover(DataConfig(root=str(folder)))
    assert site.structures == ("foreground",) and site.load(site.all_cases[0]).truth.all()
    (site,) = discover(DataConfig(root=str(folder), structures={"two": 2}))
    assert site.load(site.all_cases[0]).truth.all() and not site.load(site.all_cases[1]).truth.any()


def test_float_images_are_0_to_255_as_theirs_are(tmp_path: Path) -> None:
    folder = _site(tmp_path / "a", kind="float64")
    (site,) = discover(DataConfig(root=str(folder), intensity="fedfms"))
    shown, stored = site.load(site.all_cases[0]).image[0], np.load(folder / "data_npy" / "img_0.npy")
    assert shown.dtype == np.uint16 and np.abs(shown / 65535 - stored / 255).max() < 1e-4


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (
            lambda site: np.save(site / "label_npy" / "img_1.npy", np.zeros((8, 8, 3))),
            r"img_1\.npy: has 3 channel\(s\)",
        ),
        (lambda site: np.save(site / "data_npy" / "img_1.npy", np.zeros((6, 8, 9))), r"img_1\.npy: is no image \(H, W"),
        (lambda site: (site / "data_npy" / "img_1.npy").unlink(), r"label_npy/img_1\.npy: there is no image"),
        (lambda site: (site / "label_npy" / "img_1.npy").unlink(), r"data_npy/img_1\.npy: has no mask"),
        (lambda site: (site / "label_npy" / "img_1.npy").write_bytes(b"x"), r"label_npy/img_1\.npy: cannot be read"),
        (
            lambda site: np.save(site / "val_data_npy" / "img_1.npy", np.zeros((32, 32, 3))),
            r"val_data_npy/img_1\.npy: is in data_npy too",
        ),
    ],
)
def test_problems_are_named(tmp_path: Path, change: object, line: str) -> None:
    folder = _site(tmp_path / "a")
    change(folder)  # type: ignore[operator]
    with pytest.raises(UserError, match=line):
        discover(DataConfig(root=str(folder)))


def test_a_grid_that_is_no_fraction_and_labels_that_are_fractions(tmp_path: Path) -> None:
    folder = _site(tmp_path / "a")
    np.save(folder / "label_npy" / "img_0.npy", np.zeros((9, 8, 2)))
    np.save(folder / "label_npy" / "img_1.npy", np.full((8, 8, 2), 0.5))
    np.save(folder / "label_npy" / "img_2.npy", np.zeros((1, 8, 8, 2)))
    (site,) = discover(DataConfig(root=str(folder)), strict=False)
    first, second, third = site.all_cases[:3]
    with pytest.raises(UserError, match=r"img_0\.npy: 1x9x8 .* where its image img_0\.npy has 1x32x32"):
        site.load(first)
    with pytest.raises(UserError, match=r"img_1\.npy: holds fractions"):
        site.load(second)
    with pytest.raises(UserError, match=r"img_2\.npy: has 4 axes where its image needs a mask of 2"):
        site.load(third)


def test_a_patient_in_both_folders_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"patient 'img' is in"):
        open_sites(DataConfig(root=str(_site(tmp_path / "a")), patient="(img)"), 0)
