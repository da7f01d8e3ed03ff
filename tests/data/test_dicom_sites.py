"""Sites of DICOM series: found, checked, drawn from and predicted like any other."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from sammit.config import DataConfig
from sammit.data import Site, discover, open_sites, site_of_images
from sammit.data.check import check
from sammit.data.readers import read_channels, read_mask
from sammit.data.segmentation import Maker
from sammit.errors import UserError
from sammit.geometry import View
from sammit.predict import Predictor, predict

from .scanner import message, write_picture, write_segmentation, write_series

SHAPE = (20, 24, 5)
AFFINE = np.array([[-0.7, 0, 0, 9], [0, -0.8, 0, 5], [0, 0, 4, -60], [0, 0, 0, 1]])


def _volume(index: int) -> tuple[np.ndarray, np.ndarray]:
    """A series' numbers and what is bright in it, (column, row, slice)."""
    values = np.random.default_rng(index).integers(-200, 0, SHAPE, dtype=np.int16)
    bright = np.zeros(SHAPE, bool)
    bright[4:12, 5 + index : 14 + index, 1:4] = True
    values[bright] += 400
    return values, bright


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A site of five series, the first two with NIfTI masks as other tools write them, the others with a SEG."""
    folder = tmp_path / "root" / "site"
    for index in range(5):
        values, bright = _volume(index)
        series = write_series(
            folder / "images" / f"case{index}", values, AFFINE, np.random.default_rng(1).permutation(5)
        )
        if index < 2:
            (folder / "masks").mkdir(exist_ok=True)
            nifti = nibabel.Nifti1Image(bright.astype(np.uint8), AFFINE)
            flipped = nibabel.as_closest_canonical(nifti) if index else nifti
            nibabel.save(flipped, folder / "masks" / f"case{index}.nii.gz")
        else:
            write_segmentation(folder / "masks" / f"case{index}-seg.dcm", series, AFFINE, {"Bright": bright})
    return folder


class Threshold(nn.Module):
    """Finds what is brighter than the middle of the range in the middle channel."""

    def forward(self, images: Tensor) -> Tensor:
        return images[:, 1:2] - 0.5


def _predictor(data: DataConfig) -> Predictor:
    view = View(data.view, data.size, data.scale, data.overlap, data.longest)
    return Predictor(Threshold(), "global", ("bright",), data, (), view, "cpu", Maker("threshold", "0"))


def test_a_site_of_series(folder: Path) -> None:
    config = DataConfig(root=str(folder), window=(-200.0, 200.0), size=16)
    (site,) = open_sites(config, 0)
    assert [case.name for case in site.all_cases] == [f"case{index}" for index in range(5)]
    assert all(case.volume for case in site.all_cases)
    for index, case in enumerate(site.all_cases):
        loaded = site.load(case)
        assert loaded.spacing == (4.0, 0.8, 0.7)
        assert (loaded.truth[..., 0] == _volume(index)[1].transpose(2, 1, 0)).all()
    assert next(site.batches(1, 4, ("k",))).truth.any()
    (report,) = check(config)
    assert not report.problems and report.volumes == 5 and report.spacing == ((4.0, 0.8, 0.7),) * 2
    assert report.structures[0].present == 5


def test_equal_slices_under_other_names_are_the_same_case(folder: Path) -> None:
    first = discover(DataConfig(root=str(folder)))[0].fingerprint()
    series = folder / "images" / "case0"
    for place, path in enumerate(sorted(series.iterdir(), reverse=True)):
        path.rename(series / f"renamed{place}")
    assert discover(DataConfig(root=str(folder)))[0].fingerprint() == first
    (series / "renamed3").unlink()
    assert discover(DataConfig(root=str(folder)))[0].fingerprint() != first


def test_check_goes_on_after_a_broken_series(folder: Path) -> None:
    (folder / "images" / "case1" / "IM002.dcm").unlink()
    (folder / "masks" / "case3-seg.dcm").write_bytes(b"broken")
    (report,) = check(DataConfig(root=str(folder)))
    assert report.cases == 5 and len(report.problems) == 2
    assert any("add the slices that are missing" in line for line in report.problems)
    assert any("case3-seg.dcm: is no DICOM file" in line for line in report.problems)


def test_loose_slices_and_masks_without_a_place(folder: Path) -> None:
    write_series(folder / "images", *_volume(9)[:1], AFFINE)
    with pytest.raises(UserError, match=r"put the slices of each series into a folder of its own") as error:
        discover(DataConfig(root=str(folder)), masks=False)
    message(error)
    np.save(folder / "stack.npy", np.zeros((5, 24, 20), np.uint8))
    with pytest.raises(UserError, match=r"stack\.npy: does not say where in the patient it lies"):
        read_mask(folder / "stack.npy", read_channels(folder / "images" / "case0"))


def test_one_slice_with_a_drawn_mask_stands_upright(tmp_path: Path) -> None:
    values, bright = _volume(0)
    turned = AFFINE @ np.diag([-1.0, -1.0, 1.0, 1.0])  # scanned upside down
    folder = tmp_path / "site"
    for index in range(3):
        write_series(folder / "images" / f"case{index}", values[..., 2:3], turned)
        (folder / "masks").mkdir(exist_ok=True)
        Image.fromarray(bright[..., 2].T.astype(np.uint8) * 255).save(folder / "masks" / f"case{index}.png")
    (site,) = discover(DataConfig(root=str(folder)))
    loaded = site.load(site.all_cases[0])
    assert not site.all_cases[0].volume and loaded.image.shape == (1, 24, 20, 3)
    assert (loaded.truth[0, ..., 0] == bright[..., 2].T[::-1, ::-1]).all()
    assert loaded.image[loaded.truth[..., 0]].min() > loaded.image[~loaded.truth[..., 0]].max()


@pytest.mark.parametrize("slices", ["2d", "2.5d"])
def test_masks_of_series_are_nifti_that_lie_on_them(folder: Path, tmp_path: Path, slices: str) -> None:
    config = DataConfig(window=(-200.0, 200.0), size=16, slices=slices)  # type: ignore[arg-type]
    for images in ([folder / "images"], [folder / "images" / "case3"]):
        written = predict(_predictor(config), images, tmp_path / "out", overlay=True)
        assert len(written) == 2 * (5 if len(images[0].parts) == len(folder.parts) + 1 else 1)
    mask = nibabel.load(tmp_path / "out" / "case3_bright.nii.gz")
    assert np.allclose(mask.affine, AFFINE, atol=1e-4) and mask.header.get_xyzt_units()[0] == "mm"
    assert (np.asarray(mask.dataobj) == _volume(3)[1]).all()
    assert mask.header.get_zooms() == pytest.approx((0.7, 0.8, 4.0))
    again = read_mask(tmp_path / "out" / "case3_bright.nii.gz", read_channels(folder / "images" / "case3"))
    assert (again == _volume(3)[1].transpose(2, 1, 0)).all()


def test_x_rays_in_one_folder_are_images_each(tmp_path: Path) -> None:
    for index in range(3):
        write_picture(tmp_path / f"xray{index}", np.full((9, 8), 40 * index + 100, np.uint8))
    with site_of_images([tmp_path], DataConfig()) as site:
        names = [case.name for case in site.all_cases]
    assert names == ["xray0", "xray1", "xray2"]
    written = predict(_predictor(DataConfig(size=16)), [tmp_path], tmp_path / "out")
    assert [path.name for path in written] == [f"xray{index}_bright.png" for index in range(3)]
    assert [np.asarray(Image.open(path)).any() for path in written] == [False, True, True]


def _site(root: Path, **changes: object) -> Site:
    return open_sites(replace(DataConfig(root=str(root), size=16, augmentation="none"), **changes), 0)[0]  # type: ignore[arg-type]


def test_neighbours_are_channels(folder: Path) -> None:
    flat, deep = _site(folder), _site(folder, slices="2.5d")
    for case in deep.all_cases:
        grey, image = flat.load(case).image[..., 0], deep.load(case).image
        assert (image[..., 1] == grey).all()
        assert (image[1:, ..., 0] == grey[:-1]).all() and (image[0, ..., 0] == grey[0]).all()
        assert (image[:-1, ..., 2] == grey[1:]).all() and (image[-1, ..., 2] == grey[-1]).all()
        assert (deep.load(case).truth == flat.load(case).truth).all()
    assert deep.reading()["data"]["slices"] == "2.5d" and asdict(flat.settings.config)["slices"] == "2d"
    one, two = next(flat.batches(1, 4, ("k",))), next(deep.batches(1, 4, ("k",)))
    assert torch.equal(one.images[:, 1], two.images[:, 1]) and not torch.equal(two.images[:, 0], two.images[:, 1])


def test_neighbours_are_no_colours_to_the_augmentation(tmp_path: Path) -> None:
    """Slices all alike stay alike in every channel; a stain's colours would not."""
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
        for index in range(3):
            values = np.random.default_rng(index).integers(1, 256, (1, 30, 30), dtype=np.uint8).repeat(5, axis=0)
            np.save(tmp_path / name / f"c{index}.npy", values)
    batch = next(_site(tmp_path, slices="2.5d", augmentation="standard").batches(1, 4, ("k",)))
    assert batch.images.std() > 0.1 and torch.allclose(batch.images[:, 0], batch.images[:, 2], atol=1e-6)


def test_neighbours_need_one_channel(tmp_path: Path) -> None:
    folder = tmp_path / "site"
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for index in range(3):
        np.save(folder / "images" / f"c{index}.npy", rng.integers(0, 256, (6, 16, 16, 2), dtype=np.uint8))
        np.save(folder / "masks" / f"c{index}.npy", rng.integers(0, 2, (6, 16, 16), dtype=np.uint8))
    site = _site(folder)
    assert site.load(site.all_cases[0]).image.shape == (6, 16, 16, 3)
    with pytest.raises(
        UserError, match=r"c\d\.npy: has several channels where data\.slices = .* 'channels' in dataset"
    ):
        _site(folder, slices="2.5d").load(site.all_cases[0])
    (folder / "dataset.toml").write_text("channels = [1]\n")
    chosen = _site(folder, slices="2.5d")
    stored = np.load(folder / "images" / "c0.npy")[..., 1]
    assert (chosen.load(chosen.all_cases[0]).image[1:, ..., 0] == stored[:-1]).all()


def test_pictures_stay_as_they_are(make_site: object) -> None:
    folder = make_site()  # type: ignore[operator]
    flat, deep = _site(folder), _site(folder, slices="2.5d")
    assert (flat.load(flat.all_cases[0]).image == deep.load(deep.all_cases[0]).image).all()
