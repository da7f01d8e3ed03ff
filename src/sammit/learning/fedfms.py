"""FedFMS's own scores (2403.05408, its published code), for comparison with the paper's tables and nothing else.

Each slice by itself, on the grid of FedFMS's logits, a quarter of the input: Dice and IoU averaged over the thresholds
0.1, 0.3, 0.5, 0.7, 0.9, which are applied to raw logits, as its code has it (as probabilities 0.525 to 0.711). Truth
is the nearest native pixel. Empty truth and empty prediction score 1, one false pixel on empty truth almost 0.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sammit.geometry import View, resize
from sammit.learning.inference import to_tensor
from sammit.vocabulary import Loaded

THRESHOLDS = (0.1, 0.3, 0.5, 0.7, 0.9)


SliceScores = list[dict[str, float | None]]
"""For each structure, metric -> value."""


def slice_scores(
    model: nn.Module, loaded: Loaded, view: View, device: str
) -> Iterator[tuple[SliceScores, NDArray[np.bool_]]]:
    """For each slice, Dice and IoU of each structure, and (H, W, C) masks: the scored logits above 0, resized.

    Args:
        model: (B, 3, size, size) in [0, 1] -> (B, C, h, w) logits.
        loaded: a case in native geometry.
        view: of kind "whole".
        device: where the model is.
    """
    training = model.training
    model.eval()
    try:
        for piece, truth in zip(loaded.image, loaded.truth, strict=True):
            logits = _logits(model, to_tensor(piece).to(device), view)
            masks = view.to_native(logits[None], piece.shape[:2])[0] > 0
            scores = scores_of(logits, nearest(torch.from_numpy(truth).permute(2, 0, 1), logits.shape[-1]))
            yield scores, masks.permute(1, 2, 0).numpy()
    finally:
        model.train(training)


@torch.inference_mode()
def _logits(model: nn.Module, image: Tensor, view: View) -> Tensor:
    """(1, 3, H, W) -> (C, size / 4, size / 4)."""
    logits = model(view.to_model(image)).float()
    return resize(logits, (view.size // 4, view.size // 4))[0].cpu()


def nearest(truth: Tensor, side: int) -> Tensor:
    """(C, H, W) bool -> (C, side, side) bool: the native pixel at each cell's upper left corner."""
    rows, columns = (torch.arange(side) * full // side for full in truth.shape[-2:])
    return truth[:, rows][:, :, columns]


def scores_of(logits: Tensor, truth: Tensor) -> SliceScores:
    """Dice and IoU of each structure, means over the thresholds.

    Args:
        logits: (C, h, w), no sigmoid.
        truth: (C, h, w) bool.
    """
    found = torch.stack([logits > threshold for threshold in THRESHOLDS])
    both = (found & truth).sum((-2, -1)).double()
    total = (found.sum((-2, -1)) + truth.sum((-2, -1))).double()
    dice = ((2 * both + 1e-4) / (total + 1e-4)).mean(0)
    iou = ((both + 1e-6) / (total - both + 1e-6)).mean(0)
    return [{"dice": float(d), "iou": float(i)} for d, i in zip(dice, iou, strict=True)]
