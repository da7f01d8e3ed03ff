"""Pseudo labels along a minimum spanning tree of the image: labels spread where colours change little.

Tree energy loss (Liang et al., CVPR 2022), the low-level half of it. The grid's four-neighbours are joined by edges of
weight |I_i - I_j|^2; D_ij is the sum of weights on the way from i to j in the minimum spanning tree.

    A_ij = exp(- D_ij / sigma),    y_i = sum_j A_ij p_j / sum_j A_ij,    loss = mean |p_i - y_i| over unlabelled pixels

The original filters y once more along a tree of the network's own features, and FedICRA does so at three scales; both
are left out here, and the grid is small, so that A fits into memory. A structure's p is its sigmoid.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import breadth_first_order, minimum_spanning_tree
from torch import Tensor

from sammit.geometry import area

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Matrix = NDArray[np.float64]

LEAST = 1e-9  # weight of an edge between equal colours: a weight of nothing would be no edge


def tree_energy_loss(logits: Tensor, images: Tensor, valid: Tensor, sigma: float = 0.02, side: int = 32) -> Tensor:
    """The loss on a small grid; 0 where every pixel is labelled.

    Args:
        logits: (B, C, h, w).
        images: (B, 3, H, W) in [0, 1].
        valid: (B, 1, H, W), 0 where a pixel is unlabelled; a cell of the grid counts by its unlabelled share.
        sigma: squared difference of colours over which a label fades.
        side: largest side of the grid; the matrix A has its fourth power of numbers.
    """
    shape = min(logits.shape[-2], side), min(logits.shape[-1], side)
    p, unlabelled = area(logits.float().sigmoid(), shape), 1 - area(valid.float(), shape)
    colours = area(images.float(), shape).detach().cpu().double().numpy()
    spread = torch.stack([torch.from_numpy(affinity(picture, sigma)).float() for picture in colours]).to(p)
    pseudo = torch.einsum("bij,bcj->bci", spread, p.flatten(2)).reshape(p.shape)
    return ((p - pseudo).abs() * unlabelled).sum() / (unlabelled.sum() * p.shape[1]).clamp_min(1)


def affinity(picture: Matrix, sigma: float) -> Matrix:
    """(X, h, w) -> (h w, h w), A with each row summing to 1."""
    weights = np.exp(-tree_distances(picture) / sigma)
    normalised: Matrix = weights / weights.sum(axis=1, keepdims=True)
    return normalised


def tree_distances(picture: Matrix) -> Matrix:
    """(X, h, w) -> (h w, h w), D: the weight of the way between each two pixels in the minimum spanning tree.

    Pixels are taken in breadth-first order: the way to a pixel is the way to its parent and one edge more.
    """
    colours = picture.reshape(len(picture), -1)
    order, parents = breadth_first_order(minimum_spanning_tree(_grid(picture)), 0, directed=False)
    rank, above = np.argsort(order), parents[order[1:]]
    steps = np.square(colours[:, order[1:]] - colours[:, above]).sum(0) + LEAST
    distance = np.zeros((order.size, order.size))
    for place, (parent, weight) in enumerate(zip(rank[above], steps, strict=True), start=1):
        distance[place, :place] = distance[:place, place] = distance[parent, :place] + weight
    return distance[np.ix_(rank, rank)]


def _grid(picture: Matrix) -> Any:
    """(X, h, w) -> sparse (h w, h w), the edges to the right and below with their weights."""
    number = np.arange(picture[0].size).reshape(picture.shape[1:])
    right = np.square(np.diff(picture, axis=2)).sum(0).ravel()
    below = np.square(np.diff(picture, axis=1)).sum(0).ravel()
    starts = np.concatenate([number[:, :-1].ravel(), number[:-1].ravel()])
    ends = np.concatenate([number[:, 1:].ravel(), number[1:].ravel()])
    return coo_array((np.concatenate([right, below]) + LEAST, (starts, ends)), shape=(number.size,) * 2).tocsr()
