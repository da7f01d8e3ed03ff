"""Contrast between the features at structures' boundaries and around them; holds no method.

Bands as in FedDG-ELCFS: the boundary is a structure without its erosion by 1 pixel, the background its dilation by 5
pixels without itself. NT-Xent over embeddings with labels, sim the cosine, over all ordered pairs of equal labels:

    mean_{i != j, y_i = y_j}  -log  exp(sim_ij / tau) / ( exp(sim_ij / tau) + sum_{y_k != y_i} exp(sim_ik / tau) )
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d, normalize

from sammit.geometry import area
from sammit.vocabulary import Batch

EROSION, DILATION = 1, 5  # pixels


def bands(batch: Batch) -> tuple[Tensor, Tensor]:
    """(B, C, H, W) boundary and background of each structure, 0 or 1, labelled pixels only."""
    truth = (batch.truth > 0.5).float()
    boundary = truth - (1 - _dilated(1 - truth, EROSION))
    return boundary * batch.valid, (_dilated(truth, DILATION) - truth) * batch.valid


def embeddings(features: Tensor, band: Tensor) -> tuple[Tensor, Tensor]:
    """Mean features in a band: (B, X, h, w), (B, C, H, W) -> (B, C, X), and (B, C) whether the band holds any pixel."""
    weights = area(band, (features.shape[-2], features.shape[-1]))
    size = weights.sum((-2, -1))
    total = torch.einsum("bxhw,bchw->bcx", features.float(), weights)
    return total / size.clamp_min(1e-6).unsqueeze(-1), size > 0


def boundary_contrast(maps: list[Tensor], batch: Batch, temperature: float) -> Tensor:
    """Sum over structures of NT-Xent between boundary (label 1) and background (label 0) embeddings.

    Args:
        maps: (B, X, h, w) features, one of each version of the batch's images; all are pooled.
        batch: truth and validity of the images.
        temperature: tau, above 0.
    """
    found = [embeddings(features, band) for features in maps for band in bands(batch)]
    labels = torch.cat([torch.full((len(batch.truth),), float(i % 2 == 0)) for i in range(len(found))])
    points, there = (torch.cat(parts) for parts in zip(*found, strict=True))
    labels = labels.to(points.device)
    losses = [nt_xent(points[there[:, c], c], labels[there[:, c]], temperature) for c in range(batch.truth.shape[1])]
    return torch.stack(losses).sum()


def nt_xent(points: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """NT-Xent of (N, X) embeddings with (N) labels; 0 where no two have the same label."""
    unit = normalize(points, dim=1)
    similar = unit @ unit.T / temperature
    alike = labels[:, None] == labels[None, :]
    others = similar.masked_fill(alike, -torch.inf).logsumexp(1, keepdim=True)
    pairs = alike & ~torch.eye(len(points), dtype=torch.bool, device=points.device)
    if not bool(pairs.any()):
        return points.sum() * 0
    return (torch.logaddexp(similar, others) - similar)[pairs].mean()


def _dilated(mask: Tensor, pixels: int) -> Tensor:
    """(B, C, H, W) -> the same, grown by a square of 2 pixels + 1; nothing grows in from outside the image."""
    return max_pool2d(mask, 2 * pixels + 1, stride=1, padding=pixels)
