"""How one score differs between sites: the worst site, the standard deviation over sites, best minus worst.

A mean over sites hides who pays for it; these numbers stand beside it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sammit.reporting.summary import over_structures

HIGHER = 1
LOWER = -1
"""Which way a score is better."""


@dataclass(frozen=True)
class Between:
    """One model's score over sites, each site alike; in the score's own unit.

    Attributes:
        mean: over sites.
        worst: the score of the worst site; of several runs the mean of each run's worst.
        worst_site: its name; of several runs the site that most often was the worst.
        sd: sample standard deviation over sites; None for one site.
        gap: best site minus worst site, never below 0.
        sites: how many.
    """

    mean: float
    worst: float
    worst_site: str
    sd: float | None
    gap: float
    sites: int


def between(scores: Mapping[str, float], better: int = HIGHER) -> Between | None:
    """One run's score by site; None without sites.

    Args:
        scores: site -> score.
        better: `HIGHER` or `LOWER`.
    """
    if not scores:
        return None
    mean = math.fsum(scores.values()) / len(scores)
    site = min(sorted(scores), key=lambda name: better * scores[name])
    rest = math.fsum((score - mean) ** 2 for score in scores.values())
    sd = math.sqrt(rest / (len(scores) - 1)) if len(scores) > 1 else None
    return Between(mean, scores[site], site, sd, max(scores.values()) - min(scores.values()), len(scores))


def over_runs(runs: Sequence[Between]) -> Between | None:
    """The mean over runs (seeds) of the same sites; None without runs."""
    if not runs:
        return None
    sds = [run.sd for run in runs if run.sd is not None]
    names = Counter(sorted(run.worst_site for run in runs))
    return Between(
        _mean([run.mean for run in runs]),
        _mean([run.worst for run in runs]),
        names.most_common(1)[0][0],
        _mean(sds) if sds else None,
        _mean([run.gap for run in runs]),
        runs[0].sites,
    )


def of_model(summary: Mapping[str, Any], model: str) -> Between | None:
    """Dice of one model over the sites that took part; None unless it was scored at every one of them."""
    found = {site: entry["models"].get(model) for site, entry in summary["sites"].items()}
    scores = {site: over_structures(one, "dice") for site, one in found.items() if one}
    return between(scores) if len(scores) == len(found) else None


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
