"""Small models whose every number can be worked out, and random batches."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sammit.learning.losses import segmentation_loss
from sammit.vocabulary import Batch


class Pointwise(nn.Module):
    """(B, 3, H, W) -> (B, 2, H, W): each pixel's logits depend on that pixel alone."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[int, ...]] = []

    def forward(self, images: Tensor) -> Tensor:
        self.calls.append(tuple(images.shape))
        return torch.stack([3 * images[:, 0] - images[:, 1] - 1, images[:, 2] - 0.5], dim=1)


class Small(nn.Module):
    """Two parts and an adapter, as names tell them: `body`, `head`, `body.adapters.low`."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(3)
            self.body = nn.Conv2d(3, 4, 1)
            self.body.adapters = nn.ModuleDict({"low": nn.Conv2d(3, 4, 1, bias=False)})
            self.head = nn.Conv2d(4, 2, 1)

    def forward(self, images: Tensor) -> Tensor:
        hidden: Tensor = self.body(images) + self.body.adapters["low"](images)  # type: ignore[index, operator]
        return self.head(hidden.tanh())  # type: ignore[no-any-return]

    def objective(self, batch: Batch) -> Tensor:
        """The segmentation loss of a batch."""
        return segmentation_loss(self(batch.images), batch)


def some_batch(seed: int = 0, size: int = 8, structures: int = 2) -> Batch:
    """Two random images with random masks, about a quarter of the pixels unlabelled."""
    draw = torch.Generator().manual_seed(seed)
    images = torch.rand(2, 3, size, size, generator=draw)
    truth = (torch.rand(2, structures, size, size, generator=draw) > 0.6).float()
    valid = (torch.rand(2, 1, size, size, generator=draw) > 0.25).float()
    return Batch(images, truth, valid)
