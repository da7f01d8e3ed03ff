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


@pytest.mark.parametrize("kind", ["float32", "uint8", "uint16"])
def test_fedfms_volumes(kind: str) -> None:
    """Their way: clip above the 99th percentile, least value black, most white; here with more than 256 steps."""
    rng = np.random.default_rng(0)
    values = rng.integers(20, 250, (4, 30, 40, 1)).astype(kind)
    values[0, 0, :5] = 255
    clipped = np.minimum(values.astype(float), np.quantile(values, 0.99))
    theirs = (clipped - clipped.min()) / (clipped.max() - clipped.min())
    shown = to_full_range(values, (), "fedfms")
    assert shown.dtype == np.uint16 and np.abs(shown / 65535 - theirs).max() < 1e-4
    assert to_full_range(values, (20.0, 21.0), "fedfms").max() == 65535  # a window says more


def test_fedfms_images_and_constant_volumes() -> None:
    picture = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    assert to_full_range(picture, (), "fedfms") is picture
    shown = to_full_range(np.array([[[[-3.0], [0], [51], [255], [999]]]], np.float32), (), "fedfms").ravel()
    assert shown.tolist() == [0, 0, 13107, 65535, 65535]
    for value in (7.0, np.nan):
        assert not to_full_range(np.full((2, 4, 4, 1), value, np.float32), (), "fedfms").any()
