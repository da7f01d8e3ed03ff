"""Numbers as a reader meets them: scores with three decimals, bytes and counts with a unit, seconds as a duration."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

NONE = "–"
"""Stands where there is no number."""

SPACE = "\u00a0"
"""Keeps a number and its unit on one line."""


def score(value: float | None, decimals: int = 3) -> str:
    """A score with three decimals, 0.873; a distance has two."""
    if value is None or not math.isfinite(value):
        return NONE
    return f"{round(value, decimals) + 0.0:.{decimals}f}"  # the sum takes the sign off a zero


def score_with_sd(value: float | None, sd: float | None, decimals: int = 3) -> str:
    """A mean and its standard deviation: 0.873 ± 0.012; without the sd where there is none."""
    if value is None or sd is None:
        return score(value, decimals)
    return f"{score(value, decimals)} ± {score(sd, decimals)}"


def score_with_interval(value: float | None, low: float | None, high: float | None, decimals: int = 3) -> str:
    """A mean and the ends of its interval: 0.873 [0.841, 0.902]; the mean alone where there is no interval."""
    if value is None or low is None or high is None or not math.isfinite(low):
        return score(value, decimals)
    return f"{score(value, decimals)} {interval(low, high, decimals)}"


def interval(low: float | None, high: float | None, decimals: int = 3) -> str:
    """The ends of an interval: [0.841, 0.902]."""
    if low is None or high is None or not math.isfinite(low):
        return NONE
    return f"[{score(low, decimals)}, {score(high, decimals)}]"


def decimals_of(metric: str) -> int:
    """Distances have two decimals, scores in [0, 1] three."""
    return 2 if metric in ("hd95", "assd") else 3


def size(count: float | None) -> str:
    """Bytes with a decimal unit: 1.25 MB is 1 250 000 bytes."""
    return NONE if count is None else _scaled(count, ("bytes", "kB", "MB", "GB", "TB"))


def count(number: float | None) -> str:
    """A count with a decimal suffix: 1.25 M is 1 250 000."""
    return NONE if number is None else _scaled(number, ("", "k", "M", "G", "T"))


def _scaled(number: float, units: tuple[str, ...]) -> str:
    steps = 0
    while abs(number) >= 1000 and steps < len(units) - 1:
        number, steps = number / 1000, steps + 1
    # A whole number below a thousand has no decimals; a scaled one has three digits.
    text = f"{number:.0f}" if steps == 0 else f"{number:.3g}" if number < 999.5 else f"{number:.0f}"
    return f"{text}{SPACE}{units[steps]}".strip()


def percent(share: float) -> str:
    """A share with two digits: 3.1 %, 0.00042 %."""
    digits = max(0, 1 - math.floor(math.log10(abs(100 * share)))) if share else 0
    return f"{100 * share:.{digits}f}{SPACE}%"


def duration(seconds: float | None) -> str:
    """Seconds as 0.4 s, 12 s, 3 min 20 s or 2 h 5 min."""
    if seconds is None:
        return NONE
    if seconds < 10:
        return f"{seconds:.1f}{SPACE}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}{SPACE}s"
    if whole < 3600:
        return f"{whole // 60}{SPACE}min {whole % 60}{SPACE}s"
    return f"{whole // 3600}{SPACE}h {whole % 3600 // 60}{SPACE}min"


_MODELS = {
    "global": "global model",
    "personal": "personal model",
    "sources": "source sites' models, mean score",
    "experts": "global model with mean experts",
}


def model(name: str) -> str:
    """What a judged model is, in words; several names stand with " / " between them."""
    return " / ".join(_MODELS.get(one, one) for one in name.split(" / "))


def scored_part(summary: Mapping[str, Any]) -> str:
    """Whose cases a run's scores are of: "test", or "validation" where a search left the test patients alone."""
    return "validation" if summary.get("scored") == "val" else "test"


def p_value(p: float) -> str:
    """A p-value: p = 0.031, or p < 0.001."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def listed(names: Sequence[str]) -> str:
    """Names as a sentence lists them: a, b and c."""
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def plural(number: int, noun: str) -> str:
    """A number with its noun: 1 case, 3 cases."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
