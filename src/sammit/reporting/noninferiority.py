"""Whether one method may stand for another: the interval of a difference, held against a margin named beforehand."""

from __future__ import annotations

import math
from typing import Literal

from sammit.errors import UserError
from sammit.reporting import wording
from sammit.reporting.comparison import ALPHA
from sammit.reporting.statistics import Difference

Verdict = Literal["superior", "non-inferior", "inconclusive", "inferior"]


def check_margin(margin: float) -> None:
    """Raise UserError where a margin is no positive, finite number."""
    if not (math.isfinite(margin) and margin > 0):
        raise UserError(f"the non-inferiority margin is {margin}; give a Dice above 0, such as 0.02")


def judge(low: float, high: float, margin: float, p: float) -> Verdict:
    """What the interval of a difference (higher is better) says, and for superiority its test too.

    Args:
        low, high: ends of the interval; NaN where there is none.
        margin: the largest loss that would still be accepted, above 0, in the difference's unit.
        p: of the paired test, corrected. A mean that few patients carry is no superiority that ranks would not see.

    Returns:
        "superior" where the whole interval lies above 0 and p is below `ALPHA`; else "non-inferior" where it lies
        above -margin; "inferior" where it lies below -margin; "inconclusive" where it holds -margin, ends at it, or
        does not exist.
    """
    if low > 0 and p < ALPHA:
        return "superior"
    if low > -margin:
        return "non-inferior"
    return "inferior" if high < -margin else "inconclusive"


def in_words(difference: Difference, margin: float, p: float) -> str:
    """The verdict as the end of a sentence that began with the method's name: "is non-inferior ..."."""
    low, high, edge = difference.low, difference.high, wording.score(margin)
    verdict = judge(low, high, margin, p)
    if verdict == "superior":
        return "is superior: the whole interval lies above 0"
    if verdict == "inferior":
        return f"is inferior: the whole interval lies below the margin of -{edge}"
    if verdict == "non-inferior":
        more = ", though lower: it lies below 0" if high < 0 else ""
        more = "; it lies above 0 too, but the test finds no difference" if low > 0 else more
        return f"is non-inferior: the whole interval lies above the margin of -{edge}{more}"
    if math.isnan(low):
        return "cannot be judged: fewer than two patients give no interval"
    return f"is neither shown non-inferior nor inferior: the interval reaches the margin of -{edge}"
