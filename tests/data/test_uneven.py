"""Slices that do not lie evenly: refused by name, or an even grid through them and back to the slices there are."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from sammit.config import DataConfig
from sammit.data import discover
from sammit.data.readers import read_channels, read_mask
from sammit.data.series import open_series
from sammit.data.settings import Settings
from sammit.data.truth import read_truth
from sammit.data.uneven import Even
from sammit.data.writers import mask_suffix, write_mask
from sammit.errors import UserError
from sammit.vocabulary import Case

from .scanner import message, write_segmentation, write_series, write_structure_set

AFFINE = np.array([[-0.7, 0, 0, 9], [0, -0.8, 0, 5], [0, 0, 4, -60], [0, 0, 0, 1]])
OBLIQUE = np.eye(4)
OBLIQUE[:3, :3] = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0] @ np.diag([0.7, 0.8, 4.0])
OBLIQUE[:3, :3] *= np.sign(np.linalg.det(OBLIQUE[:3, :3]))
ROWS, COLUMNS = 7, 6
SQUARE = np.array([[0.5, 0.5], [3.5, 0.5], [3.5, 3.5], [0.5, 3.5]])


def _ramp(heights: Iterable[float]) -> np.ndarray:
    """(column, row, slice) int16: linear in the place of a slice, so that linear interpolation is exact."""
    slopes = np.arange(COLUMNS * ROWS).reshape(COLUMNS, ROWS, 1)
    return np.asarray(slopes * np.array(list(heights)) * 4, np.int16)


def _write(
    folder: Path, heights: list[float], affine: np.ndarray = AFFINE, values: np.ndarray | None = None
) -> list[Dataset]:
    """A series whose slices lie at `heights`, in steps of `affine`."""

    def edit(header: Dataset, slice_: int) -> None:
        moved = (np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine)[:3] @ [0, 0, heights[slice_], 1]
        header.ImagePositionPatient = [f"{number:.6f}" for number in moved]

    return write_series(folder, _ramp(heights) if values is None else values, affine, edit=edit)


@pytest.mark.parametrize("affine", [AFFINE, OBLIQUE], ids=["upright", "oblique"])
@pytest.mark.parametrize("heights", [[0, 1, 3, 4], [0, 1, 2, 5, 6, 7], [0, 1, 1.75, 3, 4, 5]], ids=str)
def test_an_even_grid_goes_through_uneven_slices(tmp_path: Path, heights: list[float], affine: np.ndarray) -> None:
    _write(tmp_path / "a", heights, affine)
    with pytest.raises(UserError, match=r"lies [0-9.]+ mm from .*; add .*, or set data.uneven = \"resample\"") as error:
        read_channels(tmp_path / "a")
    message(error)
    pixels = read_channels(tmp_path / "a", uneven="resample")
    last = int(heights[-1])
    assert pixels.cut is not None and pixels.affine is not None and pixels.spacing is not None
    assert np.allclose(pixels.cut.undo(pixels.array[..., 0]), _ramp(range(last + 1)), atol=0.01)
    assert np.allclose(pixels.affine, affine, atol=1e-4) and max(pixels.spacing) == pytest.approx(4, abs=1e-4)


def test_even_slices_stay_as_they_are(tmp_path: Path) -> None:
    _write(tmp_path / "a", [0, 1, 2.02, 3])
    plain, asked = (read_channels(tmp_path / "a", uneven=how) for how in ("refuse", "resample"))
    assert asked.even is None and (plain.array == asked.array).all() and np.array_equal(plain.affine, asked.affine)


@settings(max_examples=60)
@given(st.lists(st.floats(0.2, 3), min_size=2, max_size=9), st.integers(2, 25))
def test_there_and_back(gaps: list[float], slices: int) -> None:
    heights = np.concatenate([[0], np.cumsum(gaps)])
    even = Even(tuple(heights / heights[-1] * (slices - 1)), slices)
    own = np.arange(len(heights), dtype=np.float32)[None, None]
    grid, wanted = even.truth(own)[0, 0], np.abs(np.arange(slices)[:, None] - np.array(even.places)).min(axis=1)
    assert np.allclose(np.abs(np.array(even.places)[grid.astype(int)] - np.arange(slices)), wanted)
    assert np.allclose(even.image(np.array(even.places, np.float32)[None, None])[0, 0], np.arange(slices), atol=1e-4)
    back = even.back(np.arange(slices)[None, None])[0, 0]
    assert np.abs(back - even.places).max() <= 0.5 + 1e-9 and back[0] == 0 and back[-1] == slices - 1


def test_pictures_of_8_bits_stay_such(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 256, (COLUMNS, ROWS, 3), dtype=np.uint8)
    _write(tmp_path / "a", [0, 1, 3], values=values)
    array = read_channels(tmp_path / "a", uneven="resample").array[..., 0]
    assert array.dtype == np.uint8 and len(array) == 3  # a step of 4 or 8 mm: 1.5 usual ones between
    _write(tmp_path / "b", [0, 1, 2, 4], values=values[..., [0, 1, 2, 0]])
    array = read_channels(tmp_path / "b", uneven="resample").array[..., 0]
    between = np.rint((values[..., 2].astype(float) + values[..., 0]) / 2).T
    assert array.dtype == np.uint8 and (array[3] == between).all() and (array[2] == values[..., 2].T).all()


def test_truth_takes_the_nearest_slice(tmp_path: Path) -> None:
    series = _write(tmp_path / "image", [0, 1, 2, 4.4, 5.4])
    drawn = np.random.default_rng(1).random((COLUMNS, ROWS, 5)) < 0.5
    where = AFFINE.copy()

    def place(header: Dataset) -> None:
        for slice_, groups in enumerate(header.PerFrameFunctionalGroupsSequence):
            position = groups.PlanePositionSequence[0]
            position.ImagePositionPatient = series[slice_].ImagePositionPatient

    write_segmentation(tmp_path / "seg.dcm", series, where, {"a": drawn}, [(0, z) for z in range(5)], edit=place)
    outlines = {"a": [(height, SQUARE) for height in (2, 4.4)]}
    write_structure_set(tmp_path / "set.dcm", series, where, outlines)
    own = nibabel.Nifti1Image(drawn.astype(np.uint8), AFFINE @ np.diag([1, 1, 5.4 / 4, 1]))
    nibabel.save(own, tmp_path / "own.nii.gz")
    pixels = read_channels(tmp_path / "image", uneven="resample")
    assert len(pixels.array) == 6 and pixels.even is not None  # steps of 1.08: at 0, 1.08, 2.16, 3.24, 4.32, 5.4
    nearest = [0, 1, 2, 3, 3, 4]
    config = DataConfig(uneven="resample")
    for name in ("seg.dcm", "own.nii.gz"):
        case = Case("a", "case", "case", (tmp_path / "image",), (tmp_path / name,), True)
        (layer,) = read_truth(case, pixels, Settings(config)).layers
        assert (layer == drawn.transpose(2, 1, 0)[nearest]).all(), name
    case = Case("a", "case", "case", (tmp_path / "image",), (tmp_path / "set.dcm",), True)
    (layer,) = read_truth(case, pixels, Settings(config)).layers
    assert layer.any(axis=(1, 2)).tolist() == [False, False, True, True, True, False] and layer.sum() == 27


@pytest.mark.parametrize("affine", [AFFINE, OBLIQUE], ids=["upright", "oblique"])
@pytest.mark.parametrize("axis", ["auto", "0"])
def test_a_mask_comes_back_on_the_series_own_slices(tmp_path: Path, affine: np.ndarray, axis: str) -> None:
    heights = [0, 1, 2, 4.4, 5.4]
    _write(tmp_path / "a", heights, affine)
    pixels = read_channels(tmp_path / "a", axis, "resample")
    assert pixels.cut is not None and mask_suffix(tmp_path / "a", len(pixels.array)) == ".nii.gz"
    grid = np.zeros((COLUMNS, ROWS, 6), bool)
    grid[2:4, 1:5, 4], grid[1, 2, 2] = True, True  # the fifth slice of the grid lies nearest to the own one at 4.4
    write_mask(tmp_path / "out.nii.gz", pixels.cut.apply(grid), tmp_path / "a", axis)
    written = nibabel.load(tmp_path / "out.nii.gz")
    own = np.asarray(written.dataobj)
    assert own.shape == (COLUMNS, ROWS, 5) and (own[..., 3] == grid[..., 4]).all() and own[1, 2, 2] == 1
    assert own.sum() == 9
    ends = np.array([[0, 0, 0, 1], [0, 0, 4, 1]]) @ written.affine.T
    assert np.allclose(ends, np.array([[0, 0, 0, 1], [0, 0, 5.4, 1]]) @ affine.T, atol=1e-3)
    again = read_mask(tmp_path / "out.nii.gz", pixels, axis)
    assert again.shape == pixels.array.shape[:3] and (pixels.cut.undo(again)[..., 4] == grid[..., 4]).all()


def test_exact_copies_are_left_out_and_time_points_are_not(tmp_path: Path) -> None:
    values = _ramp([0, 1, 1, 2])
    _write(tmp_path / "copies", [0, 1, 1, 2], values=values)
    with pytest.raises(UserError, match=r"IM002\.dcm: lies where IM001\.dcm lies; take one out \(data\.uneven"):
        open_series(tmp_path / "copies")
    pixels = read_channels(tmp_path / "copies", uneven="resample")
    assert pixels.even is None and (pixels.array[..., 0] == _ramp([0, 1, 2]).transpose(2, 1, 0)).all()
    values[0, 0, 2] += 1
    _write(tmp_path / "times", [0, 1, 1, 2], values=values)
    with pytest.raises(
        UserError, match=r"IM002\.dcm: lies where IM001\.dcm lies and shows something else; give"
    ) as error:
        read_channels(tmp_path / "times", uneven="resample")
    message(error)
    _write(tmp_path / "one", [0, 0], values=_ramp([1, 1]))
    assert len(read_channels(tmp_path / "one", uneven="resample").array) == 1


def _beside(header: Dataset, slice_: int) -> None:
    x, y, z = (float(number) for number in header.ImagePositionPatient)
    header.ImagePositionPatient = [x + 20 * (slice_ % 2), y, z]


@pytest.mark.parametrize(
    ("edit", "heights", "line"),
    [
        (_beside, [0, 1, 2, 3], r"a: its slices lie beside each other and on no line, which cannot be resampled; give"),
        (None, [0, 1, 2, 90], r"a: 4 slices lie so unevenly that an even grid would need 91; add"),
    ],
)
def test_what_no_grid_can_mend(
    tmp_path: Path, edit: Callable[[Dataset, int], None] | None, heights: list[float], line: str
) -> None:
    if edit:
        write_series(tmp_path / "a", _ramp(heights), AFFINE, edit=edit)
    else:
        _write(tmp_path / "a", heights)
    with pytest.raises(UserError, match=line) as error:
        read_channels(tmp_path / "a", uneven="resample")
    message(error)


def test_a_site_says_so_in_its_own_file(tmp_path: Path) -> None:
    for index in range(3):
        _write(tmp_path / "site" / "images" / f"case{index}", [0, 1, 2, 4])
    (site,) = discover(DataConfig(root=str(tmp_path / "site")), masks=False)
    with pytest.raises(UserError, match=r"add the slices that are missing, or set data\.uneven"):
        site.load(site.all_cases[0])
    (tmp_path / "site" / "dataset.toml").write_text('uneven = "resample"\n')
    (site,) = discover(DataConfig(root=str(tmp_path / "site")), masks=False)
    assert site.load(site.all_cases[0]).image.shape == (5, ROWS, COLUMNS, 3)
