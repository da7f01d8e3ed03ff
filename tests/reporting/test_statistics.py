"""Intervals and tests against hand computations, SciPy, and formulas written out here a second time."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from sammit.reporting.statistics import (
    Difference,
    groups_bootstrap,
    holm,
    paired_difference,
    paired_wilcoxon,
    patient_bootstrap,
    patient_means,
    rank_direction,
)


def test_interval_of_equal_scores_is_that_score() -> None:
    assert patient_bootstrap([0.5] * 6, list("aabbcc"), ("k",)) == (0.5, 0.5)


def test_interval_of_two_patients_by_hand() -> None:
    """Means of a draw: 0 (1/4), 1 (1/4), or 1/4 over one case of b and three of a (1/2)."""
    low, high = patient_bootstrap([0, 0, 0, 1], ["a", "a", "a", "b"], ("k",), draws=4000)
    assert (low, high) == (0.0, 1.0)
    low, high = patient_bootstrap([0, 0, 0, 1], ["a", "a", "a", "b"], ("k",), draws=4000, level=0.4)
    assert (low, high) == (0.25, 0.25)


def test_interval_matches_scipy_when_every_patient_has_one_case() -> None:
    values = np.random.default_rng(1).beta(8, 2, size=40)
    ours = patient_bootstrap(list(values), range(40), ("k",), draws=20000)
    theirs = stats.bootstrap((values,), np.mean, n_resamples=20000, method="percentile", rng=np.random.default_rng(2))
    assert ours == pytest.approx(tuple(theirs.confidence_interval), abs=2e-3)


def test_interval_by_enumerating_all_draws() -> None:
    """Three patients have 27 equally likely draws; the percentiles of many draws must be those of the 27."""
    groups = [[0.1, 0.2], [0.6], [0.9, 0.8, 1.0]]
    means = [np.mean([v for i in draw for v in groups[i]]) for draw in itertools.product(range(3), repeat=3)]
    values, patients = [v for group in groups for v in group], ["a", "a", "b", "c", "c", "c"]
    low, high = patient_bootstrap(values, patients, ("k",), draws=20000, level=0.8)
    assert low == pytest.approx(np.quantile(means, 0.1, method="inverted_cdf"), abs=1e-9)
    assert high == pytest.approx(np.quantile(means, 0.9, method="inverted_cdf"), abs=1e-9)


def test_clustering_widens_the_interval_of_patients_whose_cases_agree() -> None:
    scores = [0.4] * 5 + [0.6] * 5 + [0.8] * 5 + [0.9] * 5
    clustered = patient_bootstrap(scores, [i // 5 for i in range(20)], ("k",))
    single = patient_bootstrap(scores, range(20), ("k",))
    assert clustered[1] - clustered[0] > 1.5 * (single[1] - single[0])


def test_interval_covers_the_mean_about_as_often_as_it_says() -> None:
    """Patients' means are normal around 0.7; a percentile interval of 30 patients covers a little under 95 %."""
    rng = np.random.default_rng(3)
    covered = 0
    for trial in range(300):
        centres = np.repeat(rng.normal(0.7, 0.1, size=30), 2)
        low, high = patient_bootstrap(
            list(centres + rng.normal(0, 0.03, size=60)), [i // 2 for i in range(60)], (trial,), draws=400
        )
        covered += low <= 0.7 <= high
    assert 0.88 <= covered / 300 <= 0.99


def test_draws_depend_on_the_key_alone() -> None:
    values, patients = [0.1, 0.5, 0.9, 0.7], list("abcd")
    assert patient_bootstrap(values, patients, ("k", 1)) == patient_bootstrap(values, patients, ("k", 1))
    rough = {patient_bootstrap(values, patients, ("k", seed), draws=50) for seed in range(5)}
    assert len(rough) > 1


def test_one_patient_has_no_interval() -> None:
    assert all(map(math.isnan, patient_bootstrap([0.1, 0.2], ["a", "a"], ("k",))))
    assert all(map(math.isnan, patient_bootstrap([], [], ("k",))))


@pytest.mark.parametrize(
    ("values", "patients", "draws", "level"),
    [([1.0], [], 10, 0.9), ([math.nan], ["a"], 10, 0.9), ([1.0], ["a"], 0, 0.9), ([1.0], ["a"], 10, 1.0)],
)
def test_wrong_input_is_refused(values: list[float], patients: list[str], draws: int, level: float) -> None:
    with pytest.raises(ValueError):
        patient_bootstrap(values, patients, ("k",), draws, level)


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 5)), min_size=2, max_size=30))
def test_interval_lies_within_the_patients_means(pairs: list[tuple[float, int]]) -> None:
    values, patients = [v for v, _ in pairs], [p for _, p in pairs]
    low, high = patient_bootstrap(values, patients, ("k",), draws=50)
    if len(set(patients)) > 1:
        means = patient_means(values, patients)
        assert min(means) - 1e-9 <= low <= high <= max(means) + 1e-9


def test_patient_means_by_hand() -> None:
    assert patient_means([1.0, 0.0, 0.5], ["b", "a", "b"]) == [0.75, 0.0]


def test_wilcoxon_by_enumerating_all_signs() -> None:
    """With n untied differences, W+ of all 2^n sign patterns gives the exact p-value."""
    gaps = np.array([0.11, -0.02, 0.07, 0.05, 0.13, -0.03, 0.09])
    ranks = stats.rankdata(np.abs(gaps))
    observed = ranks[gaps > 0].sum()
    totals = [ranks[np.array(signs, dtype=bool)].sum() for signs in itertools.product([0, 1], repeat=len(gaps))]
    tail = min(np.mean(np.array(totals) >= observed), np.mean(np.array(totals) <= observed))
    assert paired_wilcoxon(list(0.5 + gaps), [0.5] * len(gaps)) == pytest.approx(min(1.0, 2 * tail))


def test_wilcoxon_of_the_same_scores_is_one() -> None:
    assert paired_wilcoxon([0.1, 0.2], [0.1, 0.2]) == 1.0
    assert paired_wilcoxon([], []) == 1.0
    assert paired_wilcoxon([0.1 + 0.2, 0.5], [0.3, 0.5]) == 1.0  # float noise is no difference


def test_wilcoxon_is_symmetric_and_refuses_unpaired_scores() -> None:
    a, b = [0.9, 0.8, 0.75, 0.6, 0.7], [0.5, 0.7, 0.7, 0.65, 0.4]
    assert paired_wilcoxon(a, b) == paired_wilcoxon(b, a)
    with pytest.raises(ValueError):
        paired_wilcoxon(a, b[:-1])
    with pytest.raises(ValueError):
        paired_wilcoxon([math.nan], [0.1])


def test_holm_by_hand() -> None:
    """0.01 * 4, 0.02 * 3, 0.03 * 2 raised to the one before, 0.5."""
    assert holm([0.03, 0.01, 0.5, 0.02]) == pytest.approx([0.06, 0.04, 0.5, 0.06])
    assert holm([]) == []
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    with pytest.raises(ValueError):
        holm([1.2])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_against_the_textbook_formula(pvalues: list[float]) -> None:
    """max over j with rank at most that of i of min(1, (m - j + 1) p_(j)), vectorised."""
    p = np.array(pvalues)
    order = np.argsort(p, kind="stable")
    steps = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)), 1)
    expected = np.empty_like(p)
    expected[order] = steps
    assert holm(pvalues) == pytest.approx(list(expected))


def test_paired_difference_by_hand() -> None:
    result = paired_difference([0.9, 0.8, 0.7], [0.8, 0.7, 0.6], list("abc"), ("k",))
    assert (result.mean, result.low, result.high) == pytest.approx((0.1, 0.1, 0.1))
    assert result.cases == 3
    single = paired_difference([0.9], [0.4], ["a"], ("k",))
    assert isinstance(single, Difference) and math.isnan(single.low)
    with pytest.raises(ValueError):
        paired_difference([], [], [], ("k",))


def test_mean_over_groups_by_enumerating_all_draws() -> None:
    """Two groups of two patients: each mean is 0, 1/2 or 1 with chances 1/4, 1/2, 1/4, apart from the other's."""
    groups = {"A": ([0.0, 1.0], ["p", "q"]), "B": ([0.0, 0.0, 1.0, 1.0], ["p", "p", "q", "q"])}
    assert groups_bootstrap(groups, ("k",), draws=20000, level=0.8) == (0.25, 0.75)  # 1/16 at 0, 4/16 at 1/4
    assert groups_bootstrap(groups, ("k",), draws=20000) == (0.0, 1.0)


def test_mean_over_groups_of_one_group_is_the_patients_interval() -> None:
    values, patients = [0.1, 0.5, 0.9, 0.7], list("abcd")
    assert groups_bootstrap({"A": (values, patients)}, ("k",)) == patient_bootstrap(values, patients, ("k", "A"))


def test_mean_over_groups_takes_no_heed_of_their_order_and_needs_all_of_them() -> None:
    a, b, single = ([0.1, 0.3], ["p", "q"]), ([0.5, 0.8], ["p", "q"]), ([0.5], ["p"])
    assert groups_bootstrap({"A": a, "B": b}, ("k",)) == groups_bootstrap({"B": b, "A": a}, ("k",))
    assert all(map(math.isnan, groups_bootstrap({"A": a, "B": single}, ("k",))))
    assert all(map(math.isnan, groups_bootstrap({}, ("k",))))


def test_ranks_and_mean_may_point_apart() -> None:
    a, b = [0.4, 0.5, 0.6, 1.0], [0.41, 0.52, 0.63, 0.1]
    assert sum(a) > sum(b) and rank_direction(a, b) == -1 == -rank_direction(b, a)
    assert rank_direction(a, a) == 0 == rank_direction([], [])
