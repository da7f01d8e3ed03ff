"""Arrays are shown to a model as files of the same numbers are, and what is no image is refused in a line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from sammit.config import DataConfig
from sammit.data.arrays import image_of, spacing_of
from sammit.data.images import site_of_images
from sammit.data.settings import Settings
from sammit.data.volumes import cut_of
from sammit.errors import UserError


def random(shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
    """Numbers of a type, negative ones too where it has them."""
    values = np.random.default_rng(0).normal(100, 60, shape)
    return values.clip(0 if dtype.startswith("u") else -300, 250).astype(dtype)


def of_file(path: Path, settings: Settings) -> NDArray[Any]:
    """What a model is shown of a file."""
    with site_of_images([path], settings.config, channels=settings.channels) as site:
        return site.load(site.cases("test")[0]).image


@pytest.mark.parametrize(
    ("shape", "dtype", "name", "settings"),
    [
        ((20, 24), "uint8", "grey.png", Settings(DataConfig())),
        ((20, 24, 3), "uint8", "colour.png", Settings(DataConfig(intensity="local"))),
        ((20, 24), "uint16", "deep.tif", Settings(DataConfig())),
        ((20, 24), "bool", "two.tif", Settings(DataConfig())),
        ((20, 24, 2), "float32", "two.npy", Settings(DataConfig(intensity="percentile"))),
        ((20, 24, 3), "uint8", "one.npy", Settings(DataConfig(), channels=(1,))),
        ((6, 20, 24), "int16", "ct.npy", Settings(DataConfig(window=(-160, 240), slices="2.5d"))),
        ((6, 20, 24), "uint8", "stack.tif", Settings(DataConfig(intensity="fedfms"))),
        ((6, 20, 24, 4), "float64", "four.npy", Settings(DataConfig())),
    ],
)
def test_an_array_is_its_file(
    tmp_path: Path, shape: tuple[int, ...], dtype: str, name: str, settings: Settings
) -> None:
    array, path = random(shape, dtype), tmp_path / name
    if path.suffix == ".png":
        Image.fromarray(array).save(path)
    elif path.suffix == ".tif":
        tifffile.imwrite(path, array, photometric="minisblack")
    else:
        np.save(path, array)
    seen, theirs = image_of(array, settings), of_file(path, settings)
    assert seen.dtype == theirs.dtype and np.array_equal(seen, theirs)


def test_a_volume_with_a_place_is_its_slices_as_they_are_cut(tmp_path: Path) -> None:
    """Whatever order and direction its file has."""
    values, affine = random((20, 5, 24), "float32"), np.diag([-0.7, 4.0, 0.8, 1])
    nibabel.save(nibabel.Nifti1Image(values, affine), tmp_path / "scan.nii.gz")
    cut, settings = cut_of(values.shape, (0.7, 4.0, 0.8), affine, "auto"), Settings(DataConfig())
    assert cut.order[0] == 1
    assert np.array_equal(image_of(cut.apply(values), settings), of_file(tmp_path / "scan.nii.gz", settings))


@pytest.mark.parametrize(
    ("array", "says"),
    [
        ([[1, 2], [3, 4]], "is a list; make it a NumPy array"),
        (np.zeros((4, 4), complex), "holds complex128 where an image has numbers"),
        (np.full((4, 4), "x"), "holds <U1 where an image has numbers"),
        (np.zeros(4), r"has the shape \(4,\); give \(H, W\)"),
        (np.zeros((1, 3, 9, 9, 9)), "without a batch"),
        (np.zeros((0, 9)), r"has the shape \(0, 9\)"),
        (np.array([[1.0, np.nan]]), "holds NaN or infinity; replace them"),
        (np.zeros((3, 9, 9, 6)), "has 6 channels where a model sees three"),
    ],
)
def test_what_is_no_image(array: Any, says: str) -> None:
    with pytest.raises(UserError, match=f"^the array: .*{says}"):
        image_of(array, Settings(DataConfig()))


def test_channels_that_are_not_there() -> None:
    with pytest.raises(UserError, match=r"has 1 channel\(s\), and the run takes 0, 2 of its images' own"):
        image_of(np.zeros((9, 9)), Settings(DataConfig(), channels=(0, 2)))


def test_spacing() -> None:
    """Given, else of the run's data, else unknown."""
    assert spacing_of((3, 1, 1), Settings(DataConfig())) == (3.0, 1.0, 1.0)
    assert spacing_of(None, Settings(DataConfig(spacing=(2.0, 1.0, 0.5)))) == (2.0, 1.0, 0.5)
    assert spacing_of(None, Settings(DataConfig())) is None
    for wrong in ((1.0, 1.0), (1.0, 0.0, 1.0), (1.0, 1.0, float("nan"))):
        with pytest.raises(UserError, match=r"three numbers above 0, mm: slice, row, column"):
            spacing_of(wrong, Settings(DataConfig()))
