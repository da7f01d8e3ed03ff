"""Surface distances against MONAI's metrics and DeepMind's surface-distance, and by hand."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from sammit.learning.distances import Spacing, distance_scores

Mask = NDArray[np.bool_]
SHAPE = (9, 14, 12)


def box(*ranges: tuple[int, int], shape: tuple[int, ...] = SHAPE) -> Mask:
    mask = np.zeros(shape, bool)
    mask[tuple(slice(*pair) for pair in ranges)] = True
    return mask


PAIRS = {
    "shifted": (box((2, 6), (3, 9), (2, 8)), box((3, 7), (4, 9), (2, 9))),
    "one voxel each": (box((4, 5), (6, 7), (5, 6)), box((2, 3), (3, 4), (9, 10))),
    "one voxel in a box": (box((4, 5), (6, 7), (5, 6)), box((2, 6), (3, 9), (2, 8))),
    "touching the border": (box((0, 9), (0, 5), (0, 12)), box((0, 9), (0, 7), (0, 12))),
    "side by side": (box((2, 6), (3, 6), (2, 8)), box((2, 6), (6, 9), (2, 8))),
    "equal": (box((2, 6), (3, 9), (2, 8)), box((2, 6), (3, 9), (2, 8))),
    "two parts": (box((1, 3), (1, 4), (1, 4)) | box((6, 8), (9, 13), (7, 11)), box((1, 3), (1, 4), (1, 4))),
}
WAYS = (("gt_to_pred", "gt"), ("pred_to_gt", "pred"))
SPACINGS: list[Spacing] = [(1.0, 1.0, 1.0), (3.0, 0.7, 0.7), (2.5, 1.0, 0.4)]


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("name", PAIRS)
def test_they_are_monais(name: str, spacing: Spacing) -> None:
    """The three public metrics of MONAI, on one-hot tensors."""
    from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance, compute_surface_dice

    found, truth = (torch.from_numpy(mask)[None, None].float() for mask in PAIRS[name])
    scores = distance_scores(*PAIRS[name], spacing, 1.2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        hd95 = compute_hausdorff_distance(found, truth, include_background=True, percentile=95, spacing=spacing)
        assd = compute_average_surface_distance(found, truth, include_background=True, symmetric=True, spacing=spacing)
        nsd = compute_surface_dice(
            found, truth, class_thresholds=[1.2], include_background=True, spacing=spacing, use_subvoxels=True
        )
    assert scores["hd95"] == pytest.approx(float(hd95), abs=1e-5)
    assert scores["assd"] == pytest.approx(float(assd), abs=1e-5)
    assert scores["nsd"] == pytest.approx(float(nsd), abs=1e-5)


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.filterwarnings("ignore:Please import:DeprecationWarning")  # the oracle's own
def test_they_agree_with_surface_distance(name: str, spacing: Spacing) -> None:
    """Its surfaces run between voxels and are weighted by area, so that the two agree within a voxel, not exactly."""
    import surface_distance as oracle

    found, truth = PAIRS[name]
    voxel = float(np.linalg.norm(spacing))
    distances = oracle.compute_surface_distances(truth, found, spacing)
    scores = distance_scores(found, truth, spacing, 1.0)
    both = [(distances[f"distances_{way}"], distances[f"surfel_areas_{of}"]) for way, of in WAYS]
    pooled = sum((far * area).sum() for far, area in both) / sum(area.sum() for _, area in both)
    assert scores["hd95"] == pytest.approx(oracle.compute_robust_hausdorff(distances, 95), abs=voxel)
    assert scores["assd"] == pytest.approx(pooled, abs=voxel)


def ellipsoid(middle: Spacing, spacing: Spacing, radius: float = 16.0) -> Mask:
    """A ball of a radius in mm about a point in mm, cut into voxels."""
    grid = np.indices((30, 60, 60)).transpose(1, 2, 3, 0) * spacing
    inside: Mask = ((grid - middle) ** 2).sum(-1) < radius**2
    return inside


@pytest.mark.parametrize("spacing", [(1.5, 0.8, 0.8), (2.0, 1.0, 0.6)])
@pytest.mark.parametrize("tolerance", [1.0, 2.0, 3.0])
@pytest.mark.filterwarnings("ignore:Please import:DeprecationWarning")
def test_surface_dice_agrees_with_surface_distance(spacing: Spacing, tolerance: float) -> None:
    """The same definition, exactly."""
    import surface_distance as oracle

    found, truth = ellipsoid((20, 22, 18), spacing), ellipsoid((22, 24, 19), spacing, 17.0)
    distances = oracle.compute_surface_distances(truth, found, spacing)
    expected = oracle.compute_surface_dice_at_tolerance(distances, tolerance)
    assert distance_scores(found, truth, spacing, tolerance)["nsd"] == pytest.approx(expected, abs=1e-6)


def test_by_hand_on_anisotropic_spacing() -> None:
    """Two voxels, two slices of 3 mm, one row of 0.7 mm and no column apart."""
    found, truth = box((1, 2), (4, 5), (4, 5)), box((3, 4), (5, 6), (4, 5))
    apart = float(np.hypot(6.0, 0.7))
    near = {"hd95": pytest.approx(apart), "assd": pytest.approx(apart), "nsd": 1.0}
    assert distance_scores(found, truth, (3.0, 0.7, 0.7), apart) == near
    assert distance_scores(found, truth, (3.0, 0.7, 0.7), 1.0) == {**near, "nsd": 0.0}


def test_without_spacing_distances_are_in_pixels() -> None:
    found, truth = box((0, 1), (2, 3), (2, 3), shape=(1, 9, 9)), box((0, 1), (2, 3), (7, 8), shape=(1, 9, 9))
    assert distance_scores(found, truth, None, 1.0) == {"hd95": 5.0, "assd": 5.0, "nsd": 0.0}


def test_one_slice_is_measured_in_its_plane() -> None:
    """In three dimensions every voxel of a single slice would be surface, and the inside would count."""
    found, truth = box((2, 12), (2, 12), shape=(14, 14)), box((4, 10), (4, 10), shape=(14, 14))
    flat = distance_scores(found[None], truth[None], (5.0, 1.0, 1.0), 1.0)
    assert flat["hd95"] == pytest.approx(np.hypot(2, 2))
    assert flat["nsd"] == 0.0


@pytest.mark.parametrize(("found", "truth", "nsd"), [(True, False, 0.0), (False, True, 0.0), (False, False, 1.0)])
def test_the_empty_rule(found: bool, truth: bool, nsd: float) -> None:
    """Undefined, and said so; never a number that would improve a mean."""
    some, none = box((2, 6), (3, 9), (2, 8)), np.zeros(SHAPE, bool)
    scores = distance_scores(some if found else none, some if truth else none, None, 1.0)
    assert scores == {"hd95": None, "assd": None, "nsd": nsd}


def test_unlabelled_pixels_count_for_nothing() -> None:
    found, truth = PAIRS["shifted"]
    valid = np.ones(SHAPE, bool)
    valid[5:] = False
    assert distance_scores(found, truth, None, 1.0, valid) == distance_scores(found & valid, truth & valid, None, 1.0)
    assert distance_scores(found, truth, None, 1.0, ~valid & ~found) == {"hd95": None, "assd": None, "nsd": 0.0}


@given(st.lists(st.tuples(*[st.integers(0, side - 1) for side in SHAPE]), min_size=1, max_size=12), st.integers(0, 2))
def test_symmetric_and_zero_only_for_equal_masks(points: list[tuple[int, int, int]], which: int) -> None:
    mask, other = np.zeros(SHAPE, bool), PAIRS["shifted"][0]
    mask[tuple(np.array(points).T)] = True
    spacing = SPACINGS[which]
    ours, theirs = distance_scores(mask, other, spacing, 1.0), distance_scores(other, mask, spacing, 1.0)
    assert ours == pytest.approx(theirs)
    assert distance_scores(mask, mask, spacing, 0.0) == {"hd95": 0.0, "assd": 0.0, "nsd": 1.0}
    assert ours["assd"] is not None and ours["hd95"] is not None
    assert ours["assd"] <= np.linalg.norm(np.array(SHAPE) * spacing)
