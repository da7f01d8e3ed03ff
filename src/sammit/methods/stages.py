"""A round's steps parted between two stages, or between two models."""

from __future__ import annotations


def first_steps(steps: int, share: float) -> int:
    """Steps of the first of two stages: its share of a round's, half rounded up; no stage with a share is left empty.

    Args:
        steps: of the round, both stages together.
        share: of the first stage, in [0, 1]; a round of one step goes to the stage with the larger share.
    """
    wanted = int(steps * share + 0.5)
    return min(max(wanted, 1), steps - 1) if 0 < share < 1 and steps > 1 else wanted
