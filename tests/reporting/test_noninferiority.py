"""The verdicts at their borders."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sammit.errors import UserError
from sammit.reporting.noninferiority import check_margin, in_words, judge
from sammit.reporting.statistics import Difference

TINY = 1e-9


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (TINY, 0.1, "superior"),
        (0.0, 0.1, "non-inferior"),  # an interval that ends at 0 is not above it
        (-0.02 + TINY, 0.1, "non-inferior"),
        (-0.02 + TINY, -0.001, "non-inferior"),
        (-0.02, 0.1, "inconclusive"),  # nor is one that ends at the margin
        (-0.03, -0.01, "inconclusive"),
        (-0.03, -0.02, "inconclusive"),
        (-0.03, -0.02 - TINY, "inferior"),
        (math.nan, math.nan, "inconclusive"),
    ],
)
def test_borders(low: float, high: float, verdict: str) -> None:
    assert judge(low, high, 0.02, 0.01) == verdict


@given(st.floats(-1, 1), st.floats(-1, 1), st.floats(0.001, 0.5))
def test_one_verdict_as_the_definition_says(a: float, b: float, margin: float) -> None:
    low, high = sorted((a, b))
    verdict = judge(low, high, margin, 0.01)
    assert (verdict == "superior") == (low > 0)
    assert (verdict in ("superior", "non-inferior")) == (low > -margin)
    assert (verdict == "inferior") == (high < -margin)


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (0.01, 0.02, "is superior"),
        (-0.01, 0.02, "is non-inferior: the whole interval lies above the margin of -0.020"),
        (-0.01, -0.005, "though lower: it lies below 0"),
        (-0.03, 0.02, "neither shown non-inferior nor inferior"),
        (-0.05, -0.03, "is inferior"),
        (math.nan, math.nan, "fewer than two patients"),
    ],
)
def test_words(low: float, high: float, said: str) -> None:
    assert said in in_words(Difference(0.0, low, high, 9), 0.02, 0.01)


@pytest.mark.parametrize("margin", [0.0, -0.1, math.nan, math.inf])
def test_a_margin_must_be_above_0(margin: float) -> None:
    with pytest.raises(UserError, match="margin"):
        check_margin(margin)


def test_a_mean_that_the_test_does_not_see_is_no_superiority() -> None:
    """A few patients may carry the mean; then the interval shows no more than that nothing is lost."""
    assert judge(0.01, 0.1, 0.02, 0.6) == "non-inferior"
    assert judge(0.01, 0.1, 0.02, 0.05) == "non-inferior" and judge(0.01, 0.1, 0.02, 0.049) == "superior"
    assert in_words(Difference(0.05, 0.01, 0.1, 9), 0.02, 0.6).endswith("above 0 too, but the test finds no difference")
