"""A curve in a line of text."""

from __future__ import annotations

from sammit.watching.spark import BLOCKS, LETTERS, spark


def test_low_to_high() -> None:
    assert spark([0.0, 1.0], 8) == "▁█"
    assert spark([0, 1, 2, 3, 4, 5, 6, 7], 8) == "▁▂▃▄▅▆▇█"


def test_many_values_share_a_letter() -> None:
    assert len(spark(list(range(1000)), 12)) == 12
    assert spark([1, 1, 3, 3], 2) == "▁█"


def test_noise_is_flat_and_nothing_is_nothing() -> None:
    assert spark([0.9, 0.9001, 0.9], 8) == "▁▁▁"
    assert spark([0.0, 0.0], 8) == "▁▁"
    assert spark([], 8) == ""


def test_each_block_has_a_letter() -> None:
    assert len(set(LETTERS)) == len(BLOCKS) and LETTERS.isascii()
