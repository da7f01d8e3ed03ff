"""Windows, percentiles, and images without contrast."""

from __future__ import annotations

import numpy as np
import pytest

from sammit.data.intensity import percentiles, to_full_range, without_copies

RAMP = np.linspace(-1000, 1000, 2001, dtype=np.float32).reshape(1, 1, -1, 1)


def test_integers_stay_as_they_are() -> None:
    for kind in (np.uint8, np.uint16):
        values = np.arange(100, dtype=kind).reshape(1, 10, 10, 1)
        assert to_full_range(values, (), "range") is values


def test_a_window_in_its_own_unit() -> None:
    shown = to_full_range(RAMP, (-160.0, 240.0), "range")[0, 0, :, 0]
    assert shown.dtype == np.uint16 and shown[840] == 0 and shown[1240] == 65535
    assert shown[1040] == pytest.approx(32768, abs=1) and shown[0] == 0 and shown[-1] == 65535


def test_percentiles_cut_the_tails() -> None:
    shown = to_full_range(RAMP, (), "range")
    assert (shown == 0).sum() == pytest.approx(21, abs=1) and (shown == 65535).sum() == pytest.approx(21, abs=1)
    assert percentiles(RAMP) == pytest.approx((-980, 980))


@pytest.mark.parametrize("value", [7.0, np.nan])
def test_one_value_becomes_black(value: float) -> None:
    assert not to_full_range(np.full((1, 4, 4, 1), value, np.float32), (), "percentile").any()


def test_nan_is_black() -> None:
    values = RAMP.copy()
    values[0, 0, 2000] = np.nan
    assert to_full_range(values, (), "percentile")[0, 0, 2000] == 0


def test_grey_saved_in_colour() -> None:
    grey = np.arange(12, dtype=np.uint8).reshape(1, 3, 4, 1)
    assert without_copies(np.repeat(grey, 3, axis=-1)).shape == (1, 3, 4, 1)
    assert without_copies(np.concatenate([grey, grey, grey + 1], axis=-1)).shape == (1, 3, 4, 3)
