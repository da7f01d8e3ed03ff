"""Intervals and tests for per-case scores.

Cases of one patient are not independent, so every interval resamples patients, never cases. Every draw is keyed: the
same scores give the same interval on every machine. All scores are plain floats, in whatever unit they came.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from math import nan
from typing import TYPE_CHECKING

from sammit.randomness import generator

if TYPE_CHECKING:
    import numpy as np

Key = tuple[object, ...]
"""Names a stream of draws, such as ("interval", seed, site, structure, metric)."""


@dataclass(frozen=True)
class Difference:
    """The mean of a - b over paired cases with its interval.

    Attributes:
        mean: mean difference, in the score's own unit; above 0 where `a` is higher.
        low, high: ends of the patient-clustered bootstrap interval; NaN with fewer than two patients.
        cases: number of pairs.
    """

    mean: float
    low: float
    high: float
    cases: int


def patient_bootstrap(
    values: Sequence[float],
    patients: Sequence[Hashable],
    key: Key,
    draws: int = 2000,
    level: float = 0.95,
) -> tuple[float, float]:
    """The percentile interval of the mean over cases, with patients as the unit that is resampled.

    Each draw takes as many patients as there are, with replacement, and averages all of their cases; a patient with
    many cases therefore weighs as much as in the plain mean.

    Args:
        values: one finite score for each case.
        patients: whose case each is; same length.
        key: names the draws.
        draws: bootstrap draws, at least 1.
        level: coverage, between 0 and 1.

    Returns:
        (low, high); (NaN, NaN) with fewer than two patients, where no interval exists.

    Raises:
        ValueError: lengths differ, a value is not finite, or `draws` or `level` is out of range.
    """
    import numpy as np

    if draws < 1 or not 0 < level < 1:
        raise ValueError(f"draws must be at least 1 and level inside (0, 1), not {draws} and {level}")
    sums, counts = _by_patient(values, patients)
    if len(sums) < 2:
        return nan, nan
    chosen = generator(*key).integers(len(sums), size=(draws, len(sums)))
    means = sums[chosen].sum(axis=1) / counts[chosen].sum(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _by_patient(values: Sequence[float], patients: Sequence[Hashable]) -> tuple[np.ndarray, np.ndarray]:
    """Sum of the scores and number of cases of each patient, in order of first appearance."""
    import numpy as np

    if len(values) != len(patients):
        raise ValueError(f"{len(values)} values for {len(patients)} patients: one patient is needed for each value")
    scores = np.asarray(values, dtype=np.float64)
    if not np.isfinite(scores).all():
        raise ValueError("a score is not finite: leave undefined cases out and count them")
    places: dict[Hashable, int] = {}
    index = np.array([places.setdefault(patient, len(places)) for patient in patients], dtype=np.int64)
    counts = np.bincount(index, minlength=len(places)).astype(np.float64)
    return np.bincount(index, weights=scores, minlength=len(places)), counts


def patient_means(values: Sequence[float], patients: Sequence[Hashable]) -> list[float]:
    """The mean score of each patient, in order of first appearance; what a paired test may treat as independent."""
    sums, counts = _by_patient(values, patients)
    return [float(mean) for mean in sums / counts]


def paired_difference(
    a: Sequence[float],
    b: Sequence[float],
    patients: Sequence[Hashable],
    key: Key,
    draws: int = 2000,
    level: float = 0.95,
) -> Difference:
    """How much higher `a` scores than `b` on the same cases.

    Args:
        a, b: one finite score for each case, in the same order.
        patients: whose case each is.
        key, draws, level: as in `patient_bootstrap`.

    Raises:
        ValueError: no pairs, lengths differ, or a score is not finite.
    """
    if not a or len(a) != len(b):
        raise ValueError(f"{len(a)} and {len(b)} scores: pairs are needed, at least one")
    gaps = [x - y for x, y in zip(a, b, strict=True)]
    low, high = patient_bootstrap(gaps, patients, key, draws, level)
    return Difference(sum(gaps) / len(gaps), low, high, len(gaps))


def paired_wilcoxon(a: Sequence[float], b: Sequence[float]) -> float:
    """The two-sided p-value of Wilcoxon's signed-rank test on pairs; zero differences are left out.

    Exact for small samples without ties, SciPy's choice of approximation otherwise. 1.0 where nothing differs.

    Raises:
        ValueError: lengths differ, or a score is not finite.
    """
    import numpy as np
    from scipy.stats import wilcoxon

    if len(a) != len(b):
        raise ValueError(f"{len(a)} and {len(b)} scores: pairs are needed")
    # Rounding makes differences equal that differ by float noise alone; ranks would otherwise depend on that noise.
    gaps = np.round(np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64), 12)
    if not np.isfinite(gaps).all():
        raise ValueError("a score is not finite: leave undefined cases out and count them")
    gaps = gaps[gaps != 0]
    return float(wilcoxon(gaps).pvalue) if len(gaps) else 1.0


def holm(pvalues: Sequence[float]) -> list[float]:
    """Holm's step-down correction for several tests.

    Args:
        pvalues: in [0, 1].

    Returns:
        Adjusted p-values in the order given, at most 1; comparing each with alpha bounds the chance of any false
        finding by alpha.

    Raises:
        ValueError: a value outside [0, 1].
    """
    if not all(0 <= p <= 1 for p in pvalues):
        raise ValueError(f"p-values must lie in [0, 1]: {list(pvalues)}")
    adjusted = [0.0] * len(pvalues)
    reached = 0.0
    for rank, place in enumerate(sorted(range(len(pvalues)), key=pvalues.__getitem__)):
        reached = max(reached, min(1.0, (len(pvalues) - rank) * pvalues[place]))
        adjusted[place] = reached
    return adjusted
