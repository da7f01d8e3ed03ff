"""A curve in a line of text."""

from __future__ import annotations

from collections.abc import Sequence

BLOCKS = "▁▂▃▄▅▆▇█"
LETTERS = "_.-=+*%#"
"""What stands for them where an output has no blocks."""

LEAST = 0.02
"""A range smaller than this share of the largest value is drawn as this, so that noise does not look like a curve."""


def spark(values: Sequence[float], width: int) -> str:
    """At most `width` letters, each the mean of an equal part of the values, the lowest and the highest at the ends."""
    if not values:
        return ""
    count = min(width, len(values))
    parts = [values[len(values) * i // count : len(values) * (i + 1) // count] for i in range(count)]
    means = [sum(part) / len(part) for part in parts]
    low, high = min(means), max(means)
    reach = max(high - low, LEAST * max(abs(low), abs(high)), 1e-12)
    return "".join(BLOCKS[min(len(BLOCKS) - 1, int((mean - low) / reach * len(BLOCKS)))] for mean in means)
