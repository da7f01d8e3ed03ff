"""Masks of a whole image or volume, by nnU-Net's own predictor."""

from __future__ import annotations

import numpy as np
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

from .line import Arrays, Facts
from .objects import Setup, load


class Prediction:
    """nnU-Net's predictor around a network whose weights are sent whenever they have changed.

    Attributes:
        key: the facts it was made from; another model has others.
    """

    def __init__(self, key: Facts) -> None:
        self.key, self.setup = key, Setup(key["setup"])
        device = torch.device(key["device"])
        self.network = self.setup.network(deep_supervision=False).to(device)
        self.predictor = nnUNetPredictor(use_mirroring=key["mirroring"], device=device, allow_tqdm=False)
        torch.backends.cudnn.benchmark = False  # the predictor switches it on: faster, and another result each time
        self.predictor.manual_initialization(
            self.network,
            self.setup.plans,
            self.setup.configuration,
            [self.network.state_dict()],
            self.setup.dataset,
            "nnUNetTrainer",
            tuple(range(len(self.setup.configuration.patch_size))),
        )

    def load(self, arrays: Arrays) -> None:
        """New weights, if there are any."""
        if arrays:
            load(self.network, arrays)

    def segment(self, image: np.ndarray, spacing: list[float]) -> np.ndarray:
        """(c, D, H, W) -> (C, D, H, W) bool: a label's pixels, or where a region's own sigmoid is above 0.5."""
        given = (image, {"spacing": spacing}, None, None)
        if self.setup.labels.has_regions:
            probabilities: np.ndarray = self.predictor.predict_single_npy_array(*given, True)[1]
            return probabilities > 0.5
        found = self.predictor.predict_single_npy_array(*given)
        return np.stack([found == label for label in self.setup.labels.foreground_labels])
