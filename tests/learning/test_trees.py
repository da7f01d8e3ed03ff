"""The tree energy loss against shortest ways and trees grown by another algorithm."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse.csgraph import shortest_path

from sammit.learning.trees import LEAST, affinity, tree_distances, tree_energy_loss


def prim(picture: np.ndarray) -> np.ndarray:
    """(X, h, w) -> (h w, h w) edges of a minimum spanning tree, grown pixel by pixel."""
    _, height, width = picture.shape
    flat = picture.reshape(len(picture), -1).T
    weights = np.full((height * width,) * 2, np.inf)
    for i in range(height * width):
        for j in [i + 1] * (i % width < width - 1) + [i + width] * (i // width < height - 1):
            weights[i, j] = weights[j, i] = np.square(flat[i] - flat[j]).sum() + LEAST
    tree, inside = np.full_like(weights, np.inf), [0]
    while len(inside) < height * width:
        outside = [j for j in range(height * width) if j not in inside]
        i, j = min(((i, j) for i in inside for j in outside), key=lambda pair: weights[pair])
        tree[i, j] = tree[j, i] = weights[i, j]
        inside.append(j)
    return tree


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 99), st.integers(1, 5), st.integers(1, 5))
def test_distances_are_ways_in_the_tree(seed: int, height: int, width: int) -> None:
    picture = np.random.default_rng(seed).random((3, height, width))
    expected = shortest_path(np.where(np.isinf(tree := prim(picture)), 0, tree), directed=False)
    found = tree_distances(picture)
    assert np.allclose(found, expected) and np.allclose(found, found.T) and (np.diag(found) == 0).all()


def test_an_edge_keeps_labels_apart() -> None:
    """Left half dark, right half bright: within a half every pixel weighs the same, across it nothing."""
    picture = np.zeros((3, 4, 6))
    picture[:, :, 3:] = 1.0
    found = affinity(picture, 0.02)
    left = (np.arange(24) % 6 < 3).astype(float)
    assert np.allclose(found, np.where(left[:, None] == left[None], 1 / 12, 0), atol=1e-6)


def test_the_loss_by_hand() -> None:
    """Three pixels, two of one colour: y of the two is their mean, y of the third itself; the labelled do not count."""
    images = torch.zeros(1, 3, 1, 3)
    images[..., 2] = 1.0
    p = torch.tensor([[[[0.9, 0.5, 0.1]]]])
    logits, valid = torch.logit(p).requires_grad_(), torch.tensor([[[[1.0, 0.0, 0.0]]]])
    loss = tree_energy_loss(logits, images, valid)
    assert float(loss.detach()) == pytest.approx((0.7 - 0.5 + 0.0) / 2, abs=1e-5)
    loss.backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None and float(logits.grad[0, 0, 0, 1]) < 0  # it is to grow like the labelled one
    assert not tree_energy_loss(logits, images, torch.ones(1, 1, 1, 3)).detach()


def test_structures_and_images_are_averaged() -> None:
    draw = torch.Generator().manual_seed(0)
    logits, images = torch.randn(2, 2, 5, 5, generator=draw), torch.rand(2, 3, 5, 5, generator=draw)
    valid = torch.zeros(2, 1, 5, 5)
    parts = [
        tree_energy_loss(logits[b : b + 1, c : c + 1], images[b : b + 1], valid[:1]) for b in range(2) for c in range(2)
    ]
    assert torch.allclose(tree_energy_loss(logits, images, valid), torch.stack(parts).mean())


def test_a_large_grid_is_averaged_down() -> None:
    draw = torch.Generator().manual_seed(0)
    logits, images = torch.randn(1, 1, 4, 4, generator=draw), torch.rand(1, 3, 4, 4, generator=draw)
    large = [values.repeat_interleave(2, -1).repeat_interleave(2, -2) for values in (logits, images)]
    found = tree_energy_loss(*large, torch.zeros(1, 1, 8, 8), side=4)
    assert torch.allclose(found, tree_energy_loss(logits, images, torch.zeros(1, 1, 4, 4)), atol=1e-5)
