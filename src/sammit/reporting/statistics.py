"""Intervals and tests for per-case scores.

Cases of one patient are not independent, so every interval resamples patients, never cases. Every draw is keyed: the
same scores give the same interval on every machine. All scores are plain floats, in whatever unit they came.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
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
    return _percentiles(_drawn_means(values, patients, key, draws), level)


def groups_bootstrap(
    groups: Mapping[str, tuple[Sequence[float], Sequence[Hashable]]],
    key: Key,
    draws: int = 2000,
    level: float = 0.95,
) -> tuple[float, float]:
    """The percentile interval of the mean over groups of their means, such as the mean over sites.

    Each draw resamples the patients of every group within the group, so that every group stays as large as it is and
    weighs as much as every other.

    Args:
        groups: name -> (scores, whose case each is), as for `patient_bootstrap`. Their order does not matter.
        key, draws, level: as in `patient_bootstrap`.

    Returns:
        (low, high); (NaN, NaN) without groups, or where a group has fewer than two patients.

    Raises:
        ValueError: as in `patient_bootstrap`.
    """
    import numpy as np

    drawn = [_drawn_means(*groups[name], (*key, name), draws) for name in sorted(groups)]
    known = [means for means in drawn if means is not None]
    whole = bool(known) and len(known) == len(drawn)
    return _percentiles(np.mean(known, axis=0) if whole else None, level)


def _drawn_means(values: Sequence[float], patients: Sequence[Hashable], key: Key, draws: int) -> np.ndarray | None:
    """(draws,) the mean over cases in each draw of patients; None with fewer than two patients."""
    if draws < 1:
        raise ValueError(f"draws must be at least 1, not {draws}")
    sums, counts = _by_patient(values, patients)
    if len(sums) < 2:
        return None
    chosen = generator(*key).integers(len(sums), size=(draws, len(sums)))
    means: np.ndarray = sums[chosen].sum(axis=1) / counts[chosen].sum(axis=1)
    return means


def _percentiles(means: np.ndarray | None, level: float) -> tuple[float, float]:
    """The ends between which a share `level` of the draws lies; NaN where there are no draws."""
    import numpy as np

    if not 0 < level < 1:
        raise ValueError(f"level must lie inside (0, 1), not {level}")
    if means is None:
        return nan, nan
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


def rank_direction(a: Sequence[float], b: Sequence[float]) -> int:
    """Which way the signed ranks point: 1 where `a` is higher, -1 where `b` is, 0 where neither.

    The mean of the differences can point the other way when a few of them are large.
    """
    import numpy as np
    from scipy.stats import rankdata

    gaps = np.round(np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64), 12)
    gaps = gaps[gaps != 0]
    return int(np.sign(np.sum(np.sign(gaps) * rankdata(np.abs(gaps)))))


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
