"""A round's steps in two stages, by hand and by property."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sammit.methods.stages import first_steps


@pytest.mark.parametrize(
    ("steps", "share", "expected"),
    [
        (30, 0.5, 15),
        (5, 0.5, 3),
        (5, 0.4, 2),
        (1, 0.5, 1),
        (1, 0.4, 0),
        (9, 0.0, 0),
        (9, 1.0, 9),
        (9, 0.01, 1),
        (9, 0.99, 8),
    ],
)
def test_first_steps_by_hand(steps: int, share: float, expected: int) -> None:
    """Half rounded up; where there are two steps, no stage with a share goes without."""
    assert first_steps(steps, share) == expected


@given(st.integers(1, 1000), st.floats(0, 1))
def test_first_steps_are_near_the_share(steps: int, share: float) -> None:
    assert 0 <= first_steps(steps, share) <= steps
    assert abs(first_steps(steps, share) - steps * share) <= 1
