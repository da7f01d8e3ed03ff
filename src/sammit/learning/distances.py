"""Distances between the surfaces of two masks: HD95, ASSD and NSD, from MONAI's surfaces and distances.

A surface is the set of a mask's own voxels that touch what is outside it, or the image's border. With d(a, B) the
distance from a surface voxel a of A to the nearest one of B:

    HD95 = max( P95 {d(a, B)},  P95 {d(b, A)} )                          Hausdorff distance, 95th percentile
    ASSD = mean of all d(a, B) and d(b, A) together                      average symmetric surface distance
    NSD  = share of all surface voxels with d <= tolerance               normalised surface Dice (1809.04430)

Where truth or prediction is empty there is no distance: HD95 and ASSD are None. NSD is a share and follows the rule of
the overlap scores: 1 where both are empty, 0 where one is, so that a missed lesion never improves a mean.
"""

from __future__ import annotations

import warnings

import numpy as np
import torch
from numpy.typing import NDArray

from sammit.learning.metrics import Mask

Spacing = tuple[float, float, float]

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
    there, back = _distances(found, truth, spacing or (1.0, 1.0, 1.0))
    both = np.concatenate([there, back])
    return {
        "hd95": float(max(np.percentile(there, 95), np.percentile(back, 95))),
        "assd": float(both.mean()),
        "nsd": float((both <= tolerance + ROUNDING).mean()),
    }


def _distances(found: Mask, truth: Mask, spacing: Spacing) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """From each surface voxel of one mask to the other's surface, and back."""
    from monai.metrics.utils import get_edge_surface_distance

    if len(found) == 1:
        found, truth, spacing = found[0], truth[0], spacing[1:]  # type: ignore[assignment]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # MONAI calls its own function in a way it is to give up
        _, (there, back), _ = get_edge_surface_distance(
            torch.from_numpy(found), torch.from_numpy(truth), spacing=spacing, symmetric=True
        )
    return there.double().numpy(), back.double().numpy()
