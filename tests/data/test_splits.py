"""Splits partition patients, leave no part empty, and know no order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sammit.data.splits import PARTS, split_patients
from sammit.errors import UserError
from sammit.vocabulary import Part

SHARES = (0.6, 0.15, 0.25)
patients = st.sets(st.text("abcdef0123456789", min_size=1, max_size=6), min_size=3, max_size=40)


@st.composite
def shares(draw: st.DrawFn) -> tuple[float, ...]:
    weights = draw(st.tuples(*[st.floats(0.01, 1)] * 3))
    return tuple(weight / sum(weights) for weight in weights)


@given(patients, shares(), st.integers(0, 99))
def test_a_partition_without_empty_parts(names: set[str], cut: tuple[float, ...], seed: int) -> None:
    split = split_patients("site", names, cut, seed)
    assert set(split) == names and set(split.values()) == set(PARTS)


@given(patients, st.randoms(), st.integers(0, 99))
def test_the_order_plays_no_role(names: set[str], random: object, seed: int) -> None:
    shuffled = sorted(names)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert split_patients("s", shuffled + shuffled, SHARES, seed) == split_patients("s", sorted(names), SHARES, seed)


@given(patients, st.integers(0, 99))
def test_a_share_of_nothing_gets_nobody(names: set[str], seed: int) -> None:
    """Leave-one-site-out tests on the unseen site alone: source sites are cut 9:1:0."""
    split = split_patients("site", names, (0.9, 0.1, 0.0), seed)
    assert set(split) == names and set(split.values()) == {"train", "val"}


def test_shares_and_keys() -> None:
    names = [f"p{index}" for index in range(100)]
    split = split_patients("s", names, SHARES, 0)
    assert [list(split.values()).count(part) for part in PARTS] == [60, 15, 25]
    assert split != split_patients("s", names, SHARES, 1) and split != split_patients("t", names, SHARES, 0)


def test_too_few_patients() -> None:
    with pytest.raises(UserError, match=r"site .x. has 1 patient.*at least 3 are needed"):
        split_patients("x", ["a", "a"], SHARES, 0)


@given(patients, st.integers(0, 9))
def test_what_the_layout_decides_stays(names: set[str], seed: int) -> None:
    fixed: dict[str, Part] = {"test1": "test", "test2": "test"}
    split = split_patients("s", names | set(fixed), SHARES, seed, fixed)
    assert {name for name, part in split.items() if part == "test"} == set(fixed)
    assert set(split.values()) == set(PARTS)


def test_a_missing_test_part_comes_from_train() -> None:
    fixed: dict[str, Part] = {"a": "train", "b": "train", "c": "train", "d": "val"}
    split = split_patients("s", fixed, SHARES, 0, fixed)
    assert set(split) == set(fixed) and split["d"] == "val" and list(split.values()).count("test") == 1
