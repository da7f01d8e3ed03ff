"""Distances between the surfaces of two masks: HD95, ASSD and NSD, from MONAI's surfaces and distances.

A voxel surface is the set of a mask's own voxels that touch what is outside it, or the image's border. With d(a, B)
the distance from a surface voxel a of A to the nearest one of B:

    HD95 = max( P95 {d(a, B)},  P95 {d(b, A)} )                          Hausdorff distance, 95th percentile
    ASSD = mean of all d(a, B) and d(b, A) together                      average symmetric surface distance

NSD, the normalised surface Dice of Nikolov et al. (1809.04430), is the share of both surfaces' area that lies within
a tolerance of the other; its surfaces run between the voxels and are weighed by their area.

Where truth or prediction is empty there is no distance: HD95 and ASSD are None. NSD is a share and follows the rule of
the overlap scores: 1 where both are empty, 0 where one is, so that a missed lesion never improves a mean.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sammit.learning.metrics import Mask

Spacing = tuple[float, float, float]
Numbers = NDArray[np.float64]

PIXELS: Spacing = (1.0, 1.0, 1.0)

ROUNDING = 1e-5
"""Added to the tolerance: three steps of 0.4 mm are within 1.2 mm, whatever floating point makes of them."""


def distance_scores(
    found: Mask, truth: Mask, spacing: Spacing | None, tolerance: float, valid: Mask | None = None
) -> dict[str, float | None]:
    """Surface distances of one structure.

    Args:
        found, truth: (D, H, W); a case of one slice is measured in its plane.
        spacing: (slice, row, column) in mm; None: distances are in pixels.
        tolerance: of NSD, in mm, or in pixels where there is no spacing.
        valid: (D, H, W), False where a pixel is unlabelled and counts for nothing; None: all count.

    Returns:
        {"hd95": ..., "assd": ..., "nsd": ...}; the first two in mm or pixels, None where they are undefined.
    """
    if valid is not None:
        found, truth = found & valid, truth & valid
    some, other = bool(found.any()), bool(truth.any())
    if not (some and other):
        return {"hd95": None, "assd": None, "nsd": float(some == other)}
    apart: tuple[float, ...] = spacing or PIXELS
    if len(found) == 1:
        found, truth, apart = found[0], truth[0], apart[1:]
    there, back = _voxel_distances(found, truth, apart)
    return {
        "hd95": float(max(np.percentile(there, 95), np.percentile(back, 95))),
        "assd": float(np.concatenate([there, back]).mean()),
        "nsd": _surface_dice(found, truth, apart, tolerance),
    }


def _voxel_distances(found: Mask, truth: Mask, apart: tuple[float, ...]) -> tuple[Numbers, Numbers]:
    """From each surface voxel of one mask to the nearest of the other's, and back."""
    _, (there, back), _ = _surfaces(found, truth, apart, use_subvoxels=False)
    return there.double().numpy(), back.double().numpy()


def _surface_dice(found: Mask, truth: Mask, apart: tuple[float, ...], tolerance: float) -> float:
    """The share of both surfaces' area that is within the tolerance of the other."""
    edges, distances, areas = _surfaces(found, truth, apart, use_subvoxels=True)
    near = total = 0.0
    for edge, distance, area in zip(edges, distances, areas, strict=True):
        weight = area[edge].double()
        near += float(weight[distance.double() <= tolerance + ROUNDING].sum())
        total += float(weight.sum())
    return near / total


def _surfaces(found: Mask, truth: Mask, apart: tuple[float, ...], use_subvoxels: bool) -> Any:
    """MONAI's edges, distances and, between voxels, areas; each a pair."""
    from monai.metrics.utils import get_edge_surface_distance

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # MONAI calls its own function in a way it is to give up
        return get_edge_surface_distance(
            torch.from_numpy(found), torch.from_numpy(truth), spacing=apart, symmetric=True, use_subvoxels=use_subvoxels
        )
