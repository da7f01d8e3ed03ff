"""Merged statistics against the same of all cases pooled."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sammit.nnunet.fingerprints import (
    CHANNELS,
    FORM,
    LEVELS,
    CaseFacts,
    Summary,
    fingerprint,
    merge,
    sketch,
    summarise,
)

MIDDLE = LEVELS // 2


@st.composite
def a_case(draw: st.DrawFn) -> CaseFacts:
    """Any case: many have no foreground, some are grey."""
    spacing = [draw(st.sampled_from([0.5, 0.7, 1.0, 2.5, 999.0])) for _ in range(3)]
    shape = [draw(st.integers(1, 600)) for _ in range(3)]
    size, seed = draw(st.sampled_from([0, 1, 2, 40])), draw(st.integers(0, 2**16))
    drawn = (
        np.random.default_rng(seed)
        .normal(100, 30, (draw(st.sampled_from([1, 3])), size))
        .round(draw(st.integers(-1, 2)))
    )
    return CaseFacts(spacing, shape, draw(st.floats(0.1, 1)), drawn, 2, draw(st.booleans()), draw(st.booleans()))


a_site = st.lists(a_case(), min_size=1, max_size=5)
some_sites = st.lists(a_site, min_size=1, max_size=3)


def same(a: Summary, b: Summary) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def pooled(sites: Sequence[Sequence[CaseFacts]]) -> list[CaseFacts]:
    return [case for site in sites for case in site]


def within(levels: np.ndarray, values: np.ndarray, slack: float) -> bool:
    """Whether each level lies between the quantiles of `values` so many levels below and above its rank."""
    ranks = np.arange(LEVELS) + 0.5
    low, high = (np.clip((ranks + step) / LEVELS, 0, 1) for step in (-slack, slack))
    least, most = (np.quantile(values, bound, method="inverted_cdf") for bound in (low, high))
    return bool(((least <= levels) & (levels <= most)).all())


@settings(max_examples=20)
@given(sites=some_sites)
def test_what_is_told_has_the_form_that_is_declared(sites: list[list[CaseFacts]]) -> None:
    """Of fixed size, whatever the site; finite, so that it can be sent."""
    for summary in [summarise(site) for site in sites] + [merge([summarise(site) for site in sites])]:
        assert summary.keys() == FORM.keys()
        for name, (shape, dtype, _) in FORM.items():
            assert summary[name].shape == shape and summary[name].dtype == dtype, name
            assert np.isfinite(summary[name]).all(), name


@settings(max_examples=20)
@given(site=a_site)
def test_one_site_alone_is_itself(site: list[CaseFacts]) -> None:
    told = summarise(site)
    assert same(merge([told]), told)


@settings(max_examples=20)
@given(sites=some_sites, data=st.data())
def test_the_order_of_sites_changes_nothing(sites: list[list[CaseFacts]], data: st.DataObject) -> None:
    """Bit for bit."""
    told = [summarise(site) for site in sites]
    assert same(merge(data.draw(st.permutations(told))), merge(told))


@settings(max_examples=20)
@given(sites=some_sites)
def test_quantiles_are_the_pooled_ones_within_the_sketch(sites: list[list[CaseFacts]]) -> None:
    """Every level, half a level up or down."""
    merged, cases = merge([summarise(site) for site in sites]), pooled(sites)
    of = {
        "spacing": np.array([case.spacing for case in cases]),
        "shape": np.array([case.shape for case in cases], float),
        "extent": np.array([np.multiply(case.spacing, case.shape) for case in cases]),
        "relative_size": np.array([[case.relative_size] for case in cases]),
    }
    for name, values in of.items():
        for axis in range(values.shape[1]):
            assert within(merged[name][axis], values[:, axis], 0.51), (name, axis)


@settings(max_examples=20)
@given(sites=some_sites)
def test_intensities_are_the_pooled_ones(sites: list[list[CaseFacts]]) -> None:
    """Counts, means and deviations exactly; quantiles within a level."""
    merged = merge([summarise(site) for site in sites])
    rows = [np.broadcast_to(case.intensities, (CHANNELS, case.intensities.shape[1])) for case in pooled(sites)]
    values = np.concatenate(rows, axis=1)
    assert (merged["intensity.count"] == values.shape[1]).all()
    if not values.size:
        return
    for name, number in {
        "mean": values.mean(1),
        "std": values.std(1),
        "min": values.min(1),
        "max": values.max(1),
    }.items():
        assert merged[f"intensity.{name}"] == pytest.approx(number, rel=1e-9, abs=1e-6), name
    for channel in range(CHANNELS):
        assert within(merged["intensity"][channel], values[channel], 1.01)


@settings(max_examples=15)
@given(sites=some_sites)
def test_numbers_add_up_and_flags_are_raised_by_any_site(sites: list[list[CaseFacts]]) -> None:
    merged, cases = merge([summarise(site) for site in sites]), pooled(sites)
    assert merged["cases"][0] == len(cases)
    assert merged["overlap"][0] == any(case.overlap for case in cases)
    assert merged["unlabelled"][0] == any(case.unlabelled for case in cases)
    assert merged["channels"][0] == max(len(case.intensities) for case in cases)


def test_a_sketch_of_many_values_is_their_quantiles() -> None:
    values = np.random.default_rng(0).random(5000)
    ranks = (np.arange(LEVELS) + 0.5) / LEVELS
    assert np.array_equal(sketch(values[None], np.ones(1, np.int64)), np.quantile(values, ranks, method="inverted_cdf"))


def test_a_large_site_weighs_more() -> None:
    """Nine cases of one spacing and one of another: the median is the nine's."""
    one = CaseFacts([1, 1, 1], [9, 9, 9], 1.0, np.ones((1, 4)), 1, False, False)
    other = CaseFacts([5, 5, 5], [9, 9, 9], 1.0, np.full((1, 4), 9.0), 1, False, False)
    merged = merge([summarise([other]), summarise([one] * 9)])
    assert (merged["spacing"][:, MIDDLE] == 1).all() and (merged["intensity"][:, MIDDLE] == 1).all()
    assert merged["intensity.mean"] == pytest.approx([1.8] * 3)


def planners(facts: dict[str, object]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What nnU-Net's planner computes of a fingerprint: target spacing, median shape, median shape at that spacing."""
    spacings, shapes = np.array(facts["spacings"]), np.array(facts["shapes_after_crop"])
    target = np.percentile(spacings, 50, 0)
    return target, np.median(shapes, 0), np.median(np.round(spacings / target * shapes), 0)


@settings(max_examples=15)
@given(seed=st.integers(0, 1000), kind=st.sampled_from(["one view", "one matrix", "fine is large"]))
def test_the_planner_sees_what_it_would_see_of_all_cases(seed: int, kind: str) -> None:
    """Of many cases whose fields of view, or matrices, are alike, or whose fine spacings show more."""
    draw = np.random.default_rng(seed)
    sites = []
    for site in range(4):
        count = int(draw.integers(20, 60))
        spacing = draw.uniform(0.4, 1.2, (count, 1)) * [4, 1, 1] * (1 + 0.1 * site)
        fine = spacing[:, 1:2]
        view = {"one view": 200, "one matrix": 300 * fine, "fine is large": 150 / fine}[kind]
        view = view * draw.normal(1, 0.02, (count, 1))
        shape = np.maximum(1, np.round(view / spacing))
        drawn = draw.random((1, 5))
        sites.append([CaseFacts(s, n, 1.0, drawn, 1, False, False) for s, n in zip(spacing, shape, strict=True)])
    facts = fingerprint(merge([summarise(site) for site in sites]))
    cases = pooled(sites)
    exact = {"spacings": [case.spacing for case in cases], "shapes_after_crop": [case.shape for case in cases]}
    for found, wanted, slack in zip(planners(facts), planners(exact), (0.03, 0.1, 0.06), strict=True):
        assert found == pytest.approx(wanted, rel=slack, abs=1)


def test_a_fingerprint_is_nnunets() -> None:
    """Its keys, in JSON, with a channel for each channel that the images have."""
    grey = CaseFacts([999, 1, 1], [1, 40, 50], 0.5, np.array([[1.0, 2, 3]]), 1, False, False)
    facts = json.loads(json.dumps(fingerprint(summarise([grey]))))
    assert facts["spacings"] == [[999, 1, 1]] * LEVELS and facts["shapes_after_crop"] == [[1, 40, 50]] * LEVELS
    assert facts["median_relative_size_after_cropping"] == 0.5
    assert facts["foreground_intensity_properties_per_channel"] == {
        "0": {
            "mean": 2,
            "median": 2,
            "std": pytest.approx(np.std([1, 2, 3])),
            "min": 1,
            "max": 3,
            "percentile_00_5": 1,
            "percentile_99_5": 3,
        }
    }
    colour = CaseFacts([999, 1, 1], [1, 40, 50], 0.5, np.ones((3, 2)), 1, False, False)
    assert set(
        fingerprint(merge([summarise([grey]), summarise([colour])]))["foreground_intensity_properties_per_channel"]
    ) == {
        "0",
        "1",
        "2",
    }
