"""Overlap scores of one case, with the empty rule stated.

Empty truth and empty prediction agree: 1. One of the two empty: 0, never dropped, so that a missed lesion lowers the
mean.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]


def overlap_scores(found: Mask, truth: Mask, valid: Mask | None = None) -> dict[str, float]:
    """Dice and IoU of one structure.

    Args:
        found, truth: (D, H, W), the case's native geometry.
        valid: (D, H, W), False where a pixel is unlabelled and counts for nothing; None: all count.

    Returns:
        {"dice": ..., "iou": ...}, each in [0, 1].
    """
    if valid is not None:
        found, truth = found & valid, truth & valid
    both = int(np.count_nonzero(found & truth))
    either = int(np.count_nonzero(found)) + int(np.count_nonzero(truth))
    if either == 0:
        return {"dice": 1.0, "iou": 1.0}
    return {"dice": 2 * both / either, "iou": both / (either - both)}
