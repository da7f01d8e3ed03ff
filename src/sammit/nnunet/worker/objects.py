"""What travels in the experiment, as nnU-Net's own objects."""

from __future__ import annotations

import json
from importlib import metadata

import numpy as np
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from .line import Arrays, Facts

DATASET = "Dataset001_Sammit"  # nnU-Net wants its datasets numbered


def version() -> str:
    """Which nnU-Net this is."""
    return f"nnunetv2 {metadata.version('nnunetv2')}, torch {metadata.version('torch')}"


class Held:
    """nnU-Net's reader of images, for arrays in memory: a "file" is the array and its spacing."""

    def read_images(self, held: tuple[np.ndarray, list[float]]) -> tuple[np.ndarray, Facts]:
        """(c, D, H, W) float32 and its properties."""
        return held[0], {"spacing": held[1]}

    def read_seg(self, labels: np.ndarray) -> tuple[np.ndarray, Facts]:
        """(1, D, H, W) int16; a copy, because nnU-Net marks in it what lies outside the image."""
        return labels.copy(), {}


class Plans(PlansManager):  # type: ignore[misc]
    """nnU-Net's plans, with the reader above in place of one for files."""

    image_reader_writer_class = Held


class Setup:
    """What `sammit.nnunet.setup.Setup` holds: the plan, the meaning of the labels, which configuration."""

    def __init__(self, facts: Facts) -> None:
        self.plan, self.dataset = json.loads(facts["plan"]), json.loads(facts["dataset"])
        self.name: str = facts["configuration"]
        self.plans = Plans(self.plan)
        self.configuration = self.plans.get_configuration(self.name)
        self.labels = self.plans.get_label_manager(self.dataset)

    def network(self, deep_supervision: bool) -> torch.nn.Module:
        """nnU-Net's network for the plan, with nnU-Net's initial values."""
        channels = determine_num_input_channels(self.plans, self.configuration, self.dataset)
        heads = self.labels.num_segmentation_heads
        network: torch.nn.Module = nnUNetTrainer.build_network_architecture(
            self.plans, self.configuration, channels, heads, deep_supervision
        )
        return network


def parameters(network: torch.nn.Module) -> Arrays:
    """Copies of a network's parameters by name, each once however many names nnU-Net has for it."""
    return {name: parameter.detach().cpu().numpy().copy() for name, parameter in network.named_parameters()}


@torch.no_grad()
def load(network: torch.nn.Module, arrays: Arrays) -> None:
    """Put "weights.NAME" into a network."""
    for name, parameter in network.named_parameters():
        parameter.copy_(torch.from_numpy(arrays[f"weights.{name}"]))
