"""Two methods on the same patients of several sites: the number by hand, the interval against a slow second writing."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sammit.randomness import generator
from sammit.reporting.paired_sites import Apart, apart, worst_sites

KEY = ("test",)

HAND = {
    (0, "A", "p", "c0"): (0.9, 0.5),
    (0, "A", "p", "c1"): (0.7, 0.5),
    (0, "A", "q", "c2"): (0.5, 0.5),
    (0, "B", "r", "c3"): (0.2, 0.6),
    (0, "B", "s", "c4"): (0.4, 0.6),
    (1, "A", "p", "c0"): (0.1, 0.8),
    (1, "A", "q", "c2"): (0.3, 0.8),
    (1, "B", "r", "c3"): (0.6, 0.9),
}  # site means: seed 0: 0.7, 0.3 and 0.5, 0.6; seed 1: 0.2, 0.6 and 0.8, 0.9


def test_mean_and_worst_by_hand() -> None:
    assert apart(HAND, np.mean, KEY).difference == pytest.approx((0.5 + 0.4) / 2 - (0.55 + 0.85) / 2)
    assert apart(HAND, np.min, KEY).difference == pytest.approx((0.3 + 0.2) / 2 - (0.5 + 0.8) / 2)
    assert worst_sites(HAND) == {"A", "B"}
    assert worst_sites({key: pair for key, pair in HAND.items() if key[0] == 1}) == {"A"}


def pairs_of(shift: float, noise: float, seeds: int = 2) -> dict:
    """Two sites, patients with one or two cases, all under every seed."""
    hard = {
        (site, f"p{i}"): generator("hard", site, i).uniform(0.4, 0.8, size=1 + i % 2) for site in "AB" for i in range(9)
    }
    return {
        (seed, site, patient, str(case)): (value + shift + generator(seed, site, patient, case).normal(0, noise), value)
        for seed in range(seeds)
        for (site, patient), values in hard.items()
        for case, value in enumerate(values.tolist())
    }


@pytest.mark.parametrize("over_sites", [np.mean, np.min])
def test_a_constant_gap_has_an_interval_of_no_width(over_sites) -> None:
    found = apart(pairs_of(0.03, 0.0), over_sites, KEY)
    assert (found.difference, found.low, found.high) == pytest.approx((0.03, 0.03, 0.03))


@pytest.mark.parametrize("over_sites", [np.mean, np.min])
def test_the_interval_is_that_of_resampling_patients_within_sites(over_sites) -> None:
    """Written out with loops and other draws: the ends agree within the noise of the bootstrap."""
    pairs = pairs_of(0.01, 0.05)
    own: dict = {}
    for (seed, site, patient, _), pair in pairs.items():
        own.setdefault((seed, site), {}).setdefault(patient, []).append(pair)
    rng, gaps = np.random.default_rng(7), []
    for _ in range(1000):
        taken = {site: rng.choice(list(own[0, site]), size=len(own[0, site])) for site in "AB"}
        runs = []
        for seed in (0, 1):
            scores = [[pair for patient in taken[site] for pair in own[seed, site][patient]] for site in "AB"]
            runs.append([over_sites([np.mean([pair[which] for pair in one]) for one in scores]) for which in (0, 1)])
        gaps.append(float(np.subtract(*np.mean(runs, axis=0))))
    low, high = np.quantile(gaps, [0.025, 0.975])
    found = apart(pairs, over_sites, KEY)
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.15 * (high - low))


@pytest.mark.parametrize("over_sites", [np.mean, np.min])
def test_several_seeds_of_the_same_patients_are_no_more_patients(over_sites) -> None:
    """The same scores under three seeds tell no more than under one."""
    once = pairs_of(0.01, 0.05, seeds=1)
    thrice = {(seed, *key[1:]): pair for seed in range(3) for key, pair in once.items()}
    one, three = apart(once, over_sites, KEY), apart(thrice, over_sites, KEY)
    assert (three.difference, three.low, three.high) == pytest.approx((one.difference, one.low, one.high))


def test_a_site_with_one_patient_has_no_interval() -> None:
    alone = {key: pair for key, pair in pairs_of(0.1, 0.0).items() if key[1] == "A" or key[2] == "p0"}
    found = apart(alone, np.mean, KEY)
    assert found.difference == pytest.approx(0.1) and math.isnan(found.low) and math.isnan(found.high)


def test_draws_without_a_case_of_some_seed_are_left_out() -> None:
    """Parts may be drawn anew with each seed, so a patient need not be scored under all of them."""
    split = {key: pair for key, pair in pairs_of(0.02, 0.0).items() if (key[0] == 0) == (key[2] < "p2")}
    assert apart(split, np.mean, KEY) == Apart(*[pytest.approx(0.02)] * 3)


@given(st.randoms(use_true_random=False))
@settings(max_examples=20)
def test_swapping_the_methods_turns_the_sign(random) -> None:
    keys = list(HAND)
    pairs = {key: (random.random(), random.random()) for key in keys}
    turned = {key: (b, a) for key, (a, b) in pairs.items()}
    for over_sites in (np.mean, np.min):
        one, other = apart(pairs, over_sites, KEY, draws=50), apart(turned, over_sites, KEY, draws=50)
        assert (other.difference, other.low, other.high) == pytest.approx((-one.difference, -one.high, -one.low))
