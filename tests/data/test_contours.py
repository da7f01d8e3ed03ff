"""RT structure sets: contours as masks, compared pixel by pixel with matplotlib's test of a point in a polygon."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.path import Path as Polygon
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from sammit.config import DataConfig
from sammit.data.check import check
from sammit.data.contours import enclosed
from sammit.data.readers import read_channels
from sammit.data.settings import Settings
from sammit.data.truth import Truth, read_truth
from sammit.errors import UserError
from sammit.vocabulary import Case

from .scanner import Outlines, message, write_picture, write_series, write_structure_set

SHAPE = (12, 10, 5)
VALUES = np.random.default_rng(0).integers(-900, 900, SHAPE, dtype=np.int16)
AFFINE = np.array([[-0.7, 0, 0, 9], [0, -0.8, 0, 5], [0, 0, 4, -60], [0, 0, 0, 1]])
CENTRES = np.stack(np.meshgrid(np.arange(12.0), np.arange(10.0)), axis=-1).reshape(-1, 2)
SQUARE = np.array([[1.5, 1.5], [8.5, 1.5], [8.5, 7.5], [1.5, 7.5]])
HOLE = np.array([[3.5, 3.5], [3.5, 5.5], [6.5, 5.5], [6.5, 3.5]])


def _inside(outline: np.ndarray) -> np.ndarray:
    """The reference: pixels whose centres lie in a simple polygon."""
    inside: np.ndarray = Polygon(np.concatenate([outline, outline[:1]]), closed=True).contains_points(CENTRES)
    return inside.reshape(10, 12)


def _truth(folder: Path, regions: Outlines, edit: Callable[[Dataset], object] = id, **structures: object) -> Truth:
    series = write_series(folder / "image", VALUES, AFFINE)
    write_structure_set(folder / "mask.dcm", series, AFFINE, regions, edit)
    case = Case("a", "case", "case", (folder / "image",), (folder / "mask.dcm",), True)
    return read_truth(case, read_channels(folder / "image"), Settings(DataConfig(structures=structures)))


@st.composite
def stars(draw: st.DrawFn) -> np.ndarray:
    """Simple polygons, convex or not, that may leave the picture; no centre lies on their lines but by chance."""
    count = draw(st.integers(3, 12))
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    angles = np.sort(rng.uniform(0, 2 * np.pi, count))[:: draw(st.sampled_from([1, -1]))]
    radii = rng.uniform(0.5, 9, count)
    return rng.uniform(0, 11, 2) + radii[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)


@settings(max_examples=120)
@given(st.lists(stars(), min_size=1, max_size=4))
def test_pixels_whose_centres_lie_in_an_odd_number_of_polygons(outlines: list[np.ndarray]) -> None:
    wanted = np.bitwise_xor.reduce([_inside(outline) for outline in outlines])
    assert (enclosed(outlines, (10, 12)) == wanted).all()


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(-2, 14), st.integers(-2, 12)), min_size=3, max_size=9), st.integers(1, 8))
def test_regions_side_by_side_share_no_pixel_and_leave_no_gap(corners: list[tuple[int, int]], cut: int) -> None:
    """Corners on centres: a polygon cut in two along a line between two of its corners is the sum of both parts."""
    outline = np.array(corners, float)
    cut = min(cut, len(outline) - 1)
    parts = [outline[: cut + 1], np.concatenate([outline[cut:], outline[:1]])]
    both = enclosed([parts[0]], (10, 12)) ^ enclosed([parts[1]], (10, 12))
    assert (both == enclosed([outline], (10, 12))).all()


def test_a_centre_on_the_line_counts_at_the_low_sides_only() -> None:
    square = np.array([[2.0, 1.0], [5.0, 1.0], [5.0, 4.0], [2.0, 4.0]])
    mask = enclosed([square], (10, 12))
    assert mask[1:4, 2:5].all() and mask.sum() == 9


def test_regions_become_structures_by_name_and_number(tmp_path: Path) -> None:
    regions = {"Liver": [(1, SQUARE), (2, SQUARE), (2, HOLE)], "Lesion ": [(2, HOLE)], "Isocentre": [], "Spleen": []}
    rules = {"lesion": "segment lesion", "liver": 1, "both": [1, "segment Lesion"], "spleen": "segment Spleen"}
    lesion, liver, both, spleen = _truth(tmp_path, regions, **rules).layers
    square, hole = _inside(SQUARE), _inside(HOLE)
    assert square.sum() == 42 and hole.sum() == 6
    assert (liver[1] == square).all() and (liver[2] == square & ~hole).all() and liver.sum() == 78
    assert (lesion[2] == hole).all() and lesion.sum() == 6
    assert (both == liver | lesion).all() and not spleen.any()


def test_a_keyhole_is_a_hole_and_the_same_contour_twice_counts_once(tmp_path: Path) -> None:
    keyhole = np.concatenate([SQUARE, SQUARE[:1], HOLE, HOLE[:1]])  # in along a line, around, and out along it
    (layer,) = _truth(tmp_path, {"a": [(0, keyhole), (3, HOLE), (3, HOLE)]}).layers
    assert (layer[0] == _inside(SQUARE) & ~_inside(HOLE)).all() and (layer[3] == _inside(HOLE)).all()


@pytest.mark.parametrize("hand", [1.0, -1.0])
def test_on_an_oblique_series_cut_along_another_axis(tmp_path: Path, hand: float) -> None:
    turn = np.linalg.qr(np.random.default_rng(5).normal(size=(3, 3)))[0]
    affine = np.eye(4)
    affine[:3, :3] = turn * np.sign(np.linalg.det(turn)) * hand @ np.diag([3.0, 0.5, 1.0])  # coarsest: the columns
    series = write_series(tmp_path / "image", VALUES, affine)
    write_structure_set(tmp_path / "mask.dcm", series, affine, {"a": [(0, SQUARE), (3, HOLE)]})
    like = read_channels(tmp_path / "image")
    case = Case("a", "case", "case", (tmp_path / "image",), (tmp_path / "mask.dcm",), True)
    (layer,) = read_truth(case, like, Settings(DataConfig())).layers
    wanted = np.zeros(SHAPE, bool)
    wanted[..., 0], wanted[..., 3] = _inside(SQUARE).T, _inside(HOLE).T
    assert like.cut is not None and len(like.array) == 12
    assert (like.cut.undo(layer) == wanted[..., :: int(hand)]).all()


def _points(header: Dataset) -> None:
    header.ROIContourSequence[0].ContourSequence[0].ContourGeometricType = "POINT"


def _half_a_point(header: Dataset) -> None:
    contour = header.ROIContourSequence[0].ContourSequence[0]
    contour.ContourData = contour.ContourData[:-1]


def _tipped(header: Dataset) -> None:
    contour = header.ROIContourSequence[0].ContourSequence[0]
    contour.ContourData = [*contour.ContourData[:-1], float(contour.ContourData[-1]) + 3]


def _other_frame(header: Dataset) -> None:
    header.ReferencedFrameOfReferenceSequence[0].FrameOfReferenceUID = generate_uid()


def _region_in_other_frame(header: Dataset) -> None:
    header.StructureSetROISequence[0].ReferencedFrameOfReferenceUID = generate_uid()


def _no_regions(header: Dataset) -> None:
    header.StructureSetROISequence = []


@pytest.mark.parametrize(
    ("slice_", "outline", "edit", "line"),
    [
        (1.5, SQUARE, id, r"region 1 'Liver': has a contour 2 mm beside the nearest slice \(IM00[12]\.dcm\); draw it"),
        (5, SQUARE, id, r"region 1 'Liver': has a contour 4 mm beside the nearest slice \(IM004\.dcm\); draw it"),
        (1, SQUARE, _tipped, r"region 1 'Liver': has a contour [0-9.]+ mm beside the nearest slice"),
        (1, SQUARE + 5, id, r"region 1 'Liver': has a contour that leaves the pixels of IM001\.dcm; draw it"),
        (1, SQUARE, _points, r"region 1 'Liver': is drawn as points or open lines and encloses nothing; name"),
        (1, SQUARE, _half_a_point, r"region 1 'Liver': has a contour whose numbers are no points; export"),
        (1, SQUARE, _other_frame, r"mask\.dcm: lies in another frame of reference than image; draw it"),
        (1, SQUARE, _region_in_other_frame, r"region 1 'Liver': lies in another frame of reference than its image"),
        (1, SQUARE, _no_regions, r"mask\.dcm: has no segment of any structure, but none; mend \[structures\]"),
    ],
)
def test_what_does_not_fit_is_refused(
    tmp_path: Path, slice_: int, outline: np.ndarray, edit: Callable[[Dataset], None], line: str
) -> None:
    with pytest.raises(UserError, match=line) as error:
        _truth(tmp_path, {"Liver": [(slice_, outline)]}, edit)
    message(error)


def test_what_no_structure_names_is_not_looked_at(tmp_path: Path) -> None:
    regions = {"Table": [(1.5, SQUARE + 50)], "Liver": [(1, SQUARE)]}
    (liver,) = _truth(tmp_path, regions, liver="segment Liver").layers
    assert (liver[1] == _inside(SQUARE)).all() and liver.sum() == 42


def test_a_picture_has_no_place_for_contours(tmp_path: Path) -> None:
    picture = write_picture(tmp_path / "image.dcm", VALUES[..., 0].T)
    picture.FrameOfReferenceUID = generate_uid()
    write_structure_set(tmp_path / "mask.dcm", [picture], AFFINE, {"a": [(0, SQUARE)]})
    case = Case("a", "case", "case", (tmp_path / "image.dcm",), (tmp_path / "mask.dcm",))
    with pytest.raises(UserError, match=r"mask\.dcm: has a place in the patient, but its image has none"):
        read_truth(case, read_channels(tmp_path / "image.dcm"), Settings(DataConfig()))


def test_a_site_with_structure_sets(tmp_path: Path) -> None:
    for index in range(3):
        series = write_series(tmp_path / "images" / f"case{index}", VALUES, AFFINE)
        write_structure_set(tmp_path / "masks" / f"case{index}.dcm", series, AFFINE, {"a": [(index, SQUARE)]})
    (report,) = check(DataConfig(root=str(tmp_path), size=16))
    assert not report.problems and report.structures[0].present == 3
