"""Scores: the empty rule by hand, everything else against MONAI."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.metrics import DiceMetric, MeanIoU
from numpy.typing import NDArray

from sammit.learning.metrics import overlap_scores

ONE = np.array([[[True, False], [False, False]]])
NONE = np.zeros_like(ONE)


@pytest.mark.parametrize(
    ("found", "truth", "score"),
    [
        (NONE, NONE, 1.0),  # both empty: they agree
        (ONE, NONE, 0.0),  # a false alarm
        (NONE, ONE, 0.0),  # a missed lesion must lower the mean
        (ONE, ONE, 1.0),
        (ONE, ~ONE, 0.0),
    ],
)
def test_the_empty_rule(found: NDArray[np.bool_], truth: NDArray[np.bool_], score: float) -> None:
    assert overlap_scores(found, truth) == {"dice": score, "iou": score}


def test_by_hand() -> None:
    """Two found, three true, one in common: Dice 2 / 5, IoU 1 / 4."""
    found, truth = np.zeros((1, 2, 3), bool), np.zeros((1, 2, 3), bool)
    found[0, 0, :2] = True
    truth[0, 0, 1] = truth[0, 1, :2] = True
    assert overlap_scores(found, truth) == {"dice": 2 / 5, "iou": 1 / 4}


def test_unlabelled_pixels_count_for_nothing() -> None:
    """The only overlap and the only error are unlabelled in turn; all unlabelled is both empty."""
    found, truth = np.array([[[True, True, False]]]), np.array([[[True, False, False]]])
    assert overlap_scores(found, truth, np.array([[[True, False, True]]])) == {"dice": 1.0, "iou": 1.0}
    assert overlap_scores(found, truth, np.array([[[False, True, True]]])) == {"dice": 0.0, "iou": 0.0}
    assert overlap_scores(found, truth, np.zeros((1, 1, 3), bool)) == {"dice": 1.0, "iou": 1.0}


@given(st.integers(0, 9999), st.floats(0, 1), st.floats(0, 1), st.integers(1, 3))
def test_equals_monai(seed: int, found_share: float, truth_share: float, depth: int) -> None:
    rng = np.random.default_rng(seed)
    found, truth = (rng.random((depth, 5, 6)) < share for share in (found_share, truth_share))
    scores = overlap_scores(found, truth)
    tensors = [torch.from_numpy(mask)[None, None].float() for mask in (found, truth)]
    for name, metric in (("dice", DiceMetric(ignore_empty=False)), ("iou", MeanIoU(ignore_empty=False))):
        metric(*tensors)
        assert scores[name] == pytest.approx(float(metric.aggregate()), abs=1e-6)
    assert scores["dice"] == pytest.approx(2 * scores["iou"] / (1 + scores["iou"]))
