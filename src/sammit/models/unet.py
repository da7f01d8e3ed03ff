"""A residual U-Net (Ronneberger et al., 1505.04597; Kerfoot et al. 2019), MONAI's: the network of FedU-Net.

Instance normalisation without affine weights or running statistics, so that all there is of the model is its
convolutions: what is averaged is the whole network.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from sammit.models.precision import Computing

if TYPE_CHECKING:
    from sammit.models.sizes import UNetSize


class ResidualUNet(Computing):
    """The network, as every other model is seen: an image in, one logit map for each structure out.

    Attributes:
        patch: image sides must be multiples of it.
        stride: input pixels for one logit pixel, 1.
    """

    def __init__(self, size: UNetSize, structures: int) -> None:
        """
        Args:
            size: channels of each level, residual units in each.
            structures: C.
        """
        from monai.networks.nets import UNet

        super().__init__()
        self.patch, self.stride = size.patch, size.stride
        steps = (2,) * (len(size.channels) - 1)
        self.network = UNet(
            2, 3, structures, size.channels, steps, num_res_units=size.units, act="RELU", norm="INSTANCE"
        )

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1], sides multiples of `patch` -> (B, C, H, W) logits."""
        if images.shape[-2] % self.patch or images.shape[-1] % self.patch:
            raise ValueError(f"sides {tuple(images.shape[-2:])} must be multiples of {self.patch}")
        with self.computing(images.device):
            logits: Tensor = self.network(images)
        return logits.float() if self.in_bf16 else logits
