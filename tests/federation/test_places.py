"""Places of the largest numbers, told in the shorter of two ways."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sammit.federation.places import count_of, heard, largest, told


@given(total=st.integers(0, 5000), share=st.floats(1e-4, 1), data=st.data())
def test_places_that_are_told_are_heard(total: int, share: float, data: st.DataObject) -> None:
    """Whichever way; and the way is the shorter one."""
    count = count_of(total, share)
    assert 0 <= count <= total and (count > 0) == (total > 0)
    values = torch.randn(total, generator=torch.Generator().manual_seed(data.draw(st.integers(0, 99))))
    places = largest(values, count)
    code = told(places, total)
    assert torch.equal(heard(code, count, total), places)
    assert code.nbytes == min(4 * count, -(-total // 8))


def test_the_largest_are_chosen_and_the_first_of_equals() -> None:
    assert largest(torch.tensor([1.0, -5, 2, 0, -2, 2]), 3).tolist() == [1, 2, 4]
    assert largest(torch.zeros(4), 2).tolist() == [0, 1]


STEPS, BITS = torch.tensor([3, 4], dtype=torch.int32), torch.tensor([0b10000010, 0, 0], dtype=torch.uint8)
WRONG = {
    "beyond the last": STEPS + 20,
    "before the first": torch.tensor([0, 4], dtype=torch.int32),
    "twice the same": torch.tensor([3, 0], dtype=torch.int32),
    "backwards": torch.tensor([9, -4], dtype=torch.int32),
    "around the end of the integers": torch.tensor([2**31 - 1, 2**31 - 1], dtype=torch.int32),
    "too many": torch.tensor([3, 4, 5], dtype=torch.int32),
    "of another type": STEPS.long(),
    "a bit too many": torch.tensor([0b10000011, 0, 0], dtype=torch.uint8),
    "a bit in the padding": torch.tensor([0b10000000, 0, 1], dtype=torch.uint8),
    "a short bitmap": BITS[:2],
    "in two rows": STEPS[None],
}


def test_sound_places_are_heard() -> None:
    assert heard(STEPS, 2, 20).tolist() == [2, 6] and heard(BITS, 2, 20).tolist() == [0, 6]


@pytest.mark.parametrize("wrong", WRONG)
def test_places_that_cannot_be_are_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match="not 2 places below 20"):
        heard(WRONG[wrong], 2, 20)
