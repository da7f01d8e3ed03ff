"""Numbers rounded in blocks: how far from the truth, and that nothing is added in the mean."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sammit.federation.rounding import FORMS, Form, restored, rounded, scales_of
from sammit.randomness import generator

every_form = pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())

LENGTHS = st.integers(0, 600)
HUGE = 6e38  # twice the largest float32, as a difference of two may be; the smallest is float32's smallest, 1.4e-45
SPECIAL = st.sampled_from([0.0, -0.0, 1.4e-45, -1.4e-45, 1e-40, 1.0, HUGE, -HUGE])
VALUES = st.floats(-HUGE, HUGE, allow_subnormal=False) | SPECIAL


def bound(values: np.ndarray, scales: torch.Tensor, form: Form) -> np.ndarray:
    """How far from each number what comes back may be."""
    scale = scales.double().repeat_interleave(form.block or max(1, len(values)))[: len(values)].numpy()
    if form.dtype == torch.int8:
        return scale
    relative, absolute = (2**-11, 2**-25) if form.dtype == torch.float16 else (2**-8, 0.0)
    return 1.001 * (relative * np.abs(values) + absolute * scale) + 2**-133 * scale


@every_form
@given(values=arrays(np.float64, LENGTHS, elements=VALUES))
def test_what_comes_back_is_within_the_bound(form: Form, values: np.ndarray) -> None:
    """Of any length, with numbers of any size beside one another, as far as there is a scale in float32."""
    numbers, scales = rounded(torch.from_numpy(values), form, generator(0))
    assert numbers.dtype == form.dtype and numbers.shape == values.shape
    assert scales.dtype == torch.float32 and len(scales) == scales_of(len(values), form)
    found = restored(numbers, scales, form).numpy()
    assert (np.abs(found - values) <= bound(values, scales, form)).all()
    assert bool((scales >= 0).all()) and (form.dtype != torch.int8 or not (numbers == -128).any())


def test_a_block_has_a_scale_of_its_own() -> None:
    """Small numbers next to a large one lose nothing once they are in another block."""
    values = torch.cat([torch.tensor([1e6]), torch.zeros(255), torch.full((300,), 1e-6)]).double()
    numbers, scales = rounded(values, FORMS["int8"], generator(0))
    assert len(scales) == 3
    assert torch.allclose(restored(numbers, scales, FORMS["int8"])[256:], values[256:], rtol=1e-6, atol=0)


def test_nothing_stays_nothing() -> None:
    for form in FORMS.values():
        numbers, scales = rounded(torch.zeros(300, dtype=torch.float64), form, generator(0))
        assert not numbers.any() and not scales.any()


def test_the_mean_over_many_roundings_is_the_number() -> None:
    """Of int8, whose steps are coarse: a hundredth of a step is met in one of a hundred draws."""
    form = FORMS["int8"]
    values = torch.tensor([127.0, 0.01, -0.3, 63.5, 1e-3], dtype=torch.float64)
    found = torch.stack([restored(*rounded(values, form, generator("mean", k)), form) for k in range(4000)])
    assert torch.allclose(found.mean(0), values, atol=4 * 0.5 / 4000**0.5)
    assert set(found[:, 1].tolist()) == {0.0, 1.0} and set(found[:, 0].tolist()) == {127.0}


@every_form
def test_equal_keys_give_equal_numbers(form: Form) -> None:
    """Whatever was drawn before, and of torch's own generator nothing is drawn."""
    values = torch.randn(500, dtype=torch.float64)
    state = torch.random.get_rng_state()
    first, again = (rounded(values, form, generator(3, "a", 0))[0] for _ in range(2))
    assert torch.equal(first, again) and torch.equal(state, torch.random.get_rng_state())
    other = rounded(values, form, generator(3, "b", 0))[0]
    assert torch.equal(first, other) == (form.dtype != torch.int8)
