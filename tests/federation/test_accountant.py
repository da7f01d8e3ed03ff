"""Epsilon against the closed form, against numerical accountants, and one by one against all together."""

from __future__ import annotations

import importlib.util
from math import exp, sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.stats import norm

from sammit.errors import UserError
from sammit.federation.accountant import epsilon

dp_accounting = pytest.importorskip("dp_accounting")


def analytic(deviation: float, sensitivity: float, delta: float) -> float:
    """Balle & Wang: Phi(D / 2s - eps s / D) - e^eps Phi(-D / 2s - eps s / D) = delta, solved for eps."""

    def excess(eps: float) -> float:
        near, far = sensitivity / (2 * deviation), eps * deviation / sensitivity
        return float(norm.cdf(near - far) - exp(eps + norm.logcdf(-near - far)) - delta)

    return 0.0 if excess(0.0) <= 0 else float(brentq(excess, 0, 500, xtol=1e-12))


@given(z=st.floats(0.3, 30), clip=st.floats(0.01, 100), delta=st.sampled_from([1e-3, 1e-5, 1e-6]))
def test_one_update_is_the_gaussian_mechanism_of_sensitivity_two_clips(z: float, clip: float, delta: float) -> None:
    assert epsilon([z], delta) == pytest.approx(analytic(z * clip, 2 * clip, delta), rel=1e-6, abs=1e-9)


@given(z=st.floats(0.5, 50), rounds=st.integers(1, 200))
def test_updates_together_are_one_with_less_noise(z: float, rounds: int) -> None:
    assert epsilon([z] * rounds, 1e-5) == pytest.approx(epsilon([z / sqrt(rounds)], 1e-5), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("multipliers", [[8.0] * 50, [4.0, 10.0, 10.0, 6.0]])
def test_it_is_what_numerical_accountants_find(multipliers: list[float]) -> None:
    """The composed loss distribution, rounded up, is close from above; Renyi's bound is above too."""
    pld = dp_accounting.pld.PLDAccountant()
    rdp = dp_accounting.rdp.RdpAccountant()
    for z in multipliers:
        pld.compose(dp_accounting.GaussianDpEvent(z / 2))
        rdp.compose(dp_accounting.GaussianDpEvent(z / 2))
    found = epsilon(multipliers, 1e-5)
    assert found <= pld.get_epsilon(1e-5) + 1e-6 and found == pytest.approx(pld.get_epsilon(1e-5), rel=1e-3)
    assert found < rdp.get_epsilon(1e-5) < 1.3 * found


def test_the_number_is_that_of_replacing_and_above_that_of_removing() -> None:
    """Sensitivity 2C, not C: at z = 2 twice as bad as it would look."""
    assert epsilon([2.0], 1e-5) > 1.9 * analytic(2.0, 1.0, 1e-5)


@given(st.lists(st.floats(0.5, 20), min_size=1, max_size=5), st.floats(0.5, 20))
def test_whatever_is_sent_adds(multipliers: list[float], z: float) -> None:
    assert epsilon([*multipliers, z], 1e-5) > epsilon(multipliers, 1e-5)
    assert epsilon([*multipliers, z], 1e-5) == pytest.approx(epsilon([z, *multipliers], 1e-5))


def test_nothing_sent_tells_nothing_and_next_to_no_noise_tells_all() -> None:
    assert epsilon([], 1e-5) == 0
    assert epsilon([1e-3] * 1000, 1e-5) > 1e6


def test_without_the_library_the_mend_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sammit.federation.accountant.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"dp-accounting, which is not installed: pip install 'sammit\[flare\]'"):
        epsilon([1.0], 1e-5)
    assert importlib.util.find_spec("dp_accounting")
