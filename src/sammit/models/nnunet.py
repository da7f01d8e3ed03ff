"""nnU-Net as a model: its parameters here, by nnU-Net's own names, its arithmetic in its own process."""

from __future__ import annotations

import logging
from typing import Any
from uuid import uuid4

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sammit.nnunet.cases import Spacing, as_channels, spacing_of
from sammit.nnunet.process import shared
from sammit.nnunet.setup import Setup

log = logging.getLogger(__name__)


class Nnunet(nn.Module):
    """What is averaged, sent and kept of an nnU-Net; it segments whole cases and has no forward pass.

    What never gets a gradient, the coarsest of nnU-Net's deep outputs, is a buffer: it neither trains nor travels.

    Attributes:
        setup: nnU-Net's plan, and what its labels mean.
        stride: input pixels for one logit pixel, 1.
    """

    stride = 1

    def __init__(self, setup: Setup, seed: int) -> None:
        """
        Args:
            setup: from the experiment.
            seed: of nnU-Net's initial values; equal seeds give equal networks at all sites.

        Raises:
            UserError: nnU-Net's environment is missing, or nnU-Net cannot build the plan's network.
        """
        super().__init__()
        self.setup = setup
        self._mark = uuid4().hex
        told, found = shared().ask("build", {"setup": setup.facts(), "seed": seed})
        if told["version"] != setup.version:
            log.warning("the plan was made with %s, this is %s: numbers may differ", setup.version, told["version"])
        for name, array in found.items():
            _place(self, name, torch.from_numpy(array), name in told["unused"])

    def segment_case(self, image: NDArray[np.integer], spacing: Spacing | None) -> NDArray[np.bool_]:
        """nnU-Net's own prediction: preprocessing, Gaussian-weighted windows, and the way back to the image's grid.

        Args:
            image: (D, H, W, 3) of an unsigned integer type.
            spacing: (slice, row, column) in mm; None counts a pixel as the unit.

        Returns:
            (D, H, W, C) bool.

        Raises:
            UserError: nnU-Net's process failed.
        """
        process, state = shared(), self.state_dict()
        device = str(next(iter(state.values())).device)
        key = {"setup": self.setup.facts(), "device": device, "mirroring": self.setup.mirroring}
        arrays: dict[str, NDArray[Any]] = {"image": as_channels(image, self.setup.channels)}
        mark = (self._mark, key, [(tensor.data_ptr(), tensor._version) for tensor in state.values()])
        if process.loaded != mark:
            arrays |= {f"weights.{name}": tensor.cpu().numpy() for name, tensor in state.items()}
        process.loaded = None
        asked = {"key": key, "spacing": spacing_of(len(image), spacing)}
        masks = process.ask("segment", asked, arrays)[1]["masks"]
        process.loaded = mark
        return np.moveaxis(masks, 0, -1)


def _place(root: nn.Module, name: str, tensor: Tensor, unused: bool) -> None:
    """Put a tensor under its whole dotted name, making the modules on the way."""
    *path, last = name.split(".")
    module = root
    for part in path:
        if part not in module._modules:
            module.add_module(part, nn.Module())
        module = module.get_submodule(part)
    if unused:
        module.register_buffer(last, tensor)
    else:
        module.register_parameter(last, nn.Parameter(tensor))
