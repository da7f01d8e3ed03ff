"""From an image's native pixels to what a model sees, and back: the one place where the two frames meet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class View:
    """How a model looks at an image.

    Attributes:
        kind: "tile" (windows of `size` model pixels near native scale) or "whole" (the image squeezed to a square).
        size: side of the model's input, pixels.
        scale: native pixels per model pixel for tiles; ignored for "whole".
        longest: model pixels of the longer side, for tiles of sites whose cameras differ; 0: by `scale`.
        resampling: "area" (antialiased where it shrinks), or FedFMS's plain bilinear, which skips pixels.
        overlap: share of a tile's side that neighbours share when predicting.
    """

    kind: Literal["tile", "whole"]
    size: int
    scale: float = 1.0
    overlap: float = 0.25
    longest: int = 0
    resampling: Literal["area", "fedfms"] = "area"

    def model_shape(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of the model-scale image of a native (height, width) one; tiles are cut from it."""
        if self.kind == "whole":
            return self.size, self.size
        scale = max(height, width) / self.longest if self.longest else self.scale
        return max(1, round(height / scale)), max(1, round(width / scale))

    def to_model(self, image: Tensor) -> Tensor:
        """(B, X, H, W) float in native pixels -> the same at model scale; see `resampling` for where it shrinks."""
        return resize(image, self.model_shape(*image.shape[-2:]), antialias=self.resampling == "area")

    def to_native(self, logits: Tensor, shape: tuple[int, int]) -> Tensor:
        """(B, C, h, w) logits at any resolution of the model's frame -> (B, C, H, W) of `shape`."""
        return resize(logits, shape)


def resize(values: Tensor, shape: tuple[int, int], antialias: bool = True) -> Tensor:
    """(B, X, H, W) -> (B, X, *shape), bilinear, antialiased where it shrinks; pixel centres, not corners, align."""
    from torch.nn.functional import interpolate

    if tuple(values.shape[-2:]) == tuple(shape):
        return values
    shrinks = shape[0] < values.shape[-2] or shape[1] < values.shape[-1]
    return interpolate(values, size=shape, mode="bilinear", align_corners=False, antialias=antialias and shrinks)


def area(values: Tensor, shape: tuple[int, int]) -> Tensor:
    """(B, X, H, W) -> (B, X, *shape), each new pixel the mean of those it covers: for maps of truth and validity."""
    from torch.nn.functional import interpolate

    return values if tuple(values.shape[-2:]) == tuple(shape) else interpolate(values, size=shape, mode="area")
