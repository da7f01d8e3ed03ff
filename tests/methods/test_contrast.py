"""Bands around structures, mean features in them, and NT-Xent, by hand."""

from __future__ import annotations

from math import exp, log

import pytest
import torch

from sammit.methods.contrast import bands, boundary_contrast, embeddings, nt_xent
from sammit.vocabulary import Batch


def square(side: int = 20, valid: torch.Tensor | None = None) -> Batch:
    """One image with a structure of 5 x 5 pixels at its upper left corner, and one that is nowhere."""
    truth = torch.zeros(1, 2, side, side)
    truth[0, 0, :5, :5] = 1
    return Batch(torch.rand(1, 3, side, side), truth, torch.ones(1, 1, side, side) if valid is None else valid)


def test_bands_by_hand() -> None:
    """Nothing erodes where the structure goes on beyond the image; 5 pixels around it are background."""
    boundary, background = bands(square())
    wanted = torch.zeros(20, 20)
    wanted[4, :5] = wanted[:5, 4] = 1
    assert torch.equal(boundary[0, 0], wanted)
    around = torch.zeros(20, 20)
    around[:10, :10] = 1
    around[:5, :5] = 0
    assert torch.equal(background[0, 0], around)
    assert boundary[0, 1].sum() == background[0, 1].sum() == 0


def test_unlabelled_pixels_are_in_no_band() -> None:
    valid = torch.ones(1, 1, 20, 20)
    valid[..., 4:] = 0
    boundary, background = bands(square(valid=valid))
    assert boundary[..., 4:].sum() == background[..., 4:].sum() == 0
    assert boundary.sum() == 4 and background.sum() == 4 * 5


def test_mean_features_of_a_band() -> None:
    """At a coarser grid each place counts by the part of it that is in the band."""
    features = torch.arange(4.0).reshape(1, 1, 2, 2)
    band = torch.zeros(1, 2, 4, 4)
    band[0, 0, 0, :] = 1  # half of the upper two places
    band[0, 0, 3, 3] = 1  # a quarter of the last
    means, there = embeddings(features, band)
    assert means[0, 0, 0] == pytest.approx((0.5 * 0 + 0.5 * 1 + 0.25 * 3) / 1.25)
    assert there.tolist() == [[True, False]]


def test_nt_xent_by_hand() -> None:
    """Two and one: for each ordered pair of the two, itself against the one that differs."""
    points = torch.tensor([[1.0, 0.0], [3.0, 4.0], [0.0, 2.0]])
    tau = 0.5
    wanted = [-log(exp(0.6 / tau) / (exp(0.6 / tau) + exp(other / tau))) for other in (0.0, 0.8)]
    found = nt_xent(points, torch.tensor([1.0, 1.0, 0.0]), tau)
    assert float(found) == pytest.approx(sum(wanted) / 2, rel=1e-5)


@pytest.mark.parametrize("labels", [[], [1.0], [1.0, 0.0], [1.0, 1.0, 1.0]])
def test_nothing_to_contrast(labels: list[float]) -> None:
    """No pair, or nobody to push away: no loss, and a gradient that is no NaN."""
    points = torch.randn(len(labels), 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    loss = nt_xent(points, torch.tensor(labels), 0.05)
    loss.backward()  # type: ignore[no-untyped-call]
    assert float(loss.detach()) == 0 and points.grad is not None and bool((points.grad == 0).all())


def test_the_contrast_is_low_where_boundaries_look_alike() -> None:
    """Features that tell the boundary from its surroundings have less of it than features that do not."""
    batch = square()
    boundary, background = bands(batch)
    good = torch.cat([boundary[:, :1], background[:, :1]], dim=1)
    bad = torch.ones_like(good)
    low, high = (float(boundary_contrast([maps, maps], batch, 0.05)) for maps in (good, bad))
    assert low < 1e-6 and high == pytest.approx(log(3), rel=1e-4)  # one alike against two that differ
