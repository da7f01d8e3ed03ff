"""The numbers of every architecture: the only place where they are written. Imports no torch, so listing is quick."""

from __future__ import annotations

from dataclasses import dataclass

from sammit.errors import UserError, nearest


@dataclass(frozen=True)
class Size:
    """The numbers of one Segment Anything model."""

    summary: str
    width: int  # D
    depth: int
    heads: int
    global_blocks: tuple[int, ...]
    patch: int = 16
    window: int = 14
    neck: int = 256
    decoder_mlp: int = 2048
    decoder_heads: int = 8
    stride: int = 2  # default output stride


SIZES = {
    "sam-tiny": Size("about 1 M parameters, ships with a pretrained backbone", 96, 4, 4, (1, 3), 8, 8, 64, 256, 4, 1),
    "sam-vit-b": Size("SAM ViT-B, 94 M parameters", 768, 12, 12, (2, 5, 8, 11)),
    "sam-vit-l": Size("SAM ViT-L, 312 M parameters", 1024, 24, 16, (5, 11, 17, 23)),
    "sam-vit-h": Size("SAM ViT-H, 641 M parameters", 1280, 32, 16, (7, 15, 23, 31)),
    "medsam": Size("MedSAM (2304.12306): SAM ViT-B with its own weights", 768, 12, 12, (2, 5, 8, 11)),
}


@dataclass(frozen=True)
class UNetSize:
    """The numbers of one U-Net: channels of each level, residual units in each."""

    summary: str
    channels: tuple[int, ...]
    units: int
    stride: int = 1

    @property
    def patch(self) -> int:
        """Image sides must be multiples of it: each level but the first halves them."""
        return int(2 ** (len(self.channels) - 1))


UNETS = {
    "unet": UNetSize(
        "residual U-Net (MONAI's), 1.6 M parameters, always from a random start", (16, 32, 64, 128, 256), 2
    )
}


@dataclass(frozen=True)
class Planned:
    """A model whose numbers come from a plan made for the data."""

    summary: str
    patch: int = 1
    stride: int = 1


PLANNED = {"nnunet": Planned("the real nnU-Net, planned for the data by the method fednnunet, in its own environment")}

Architecture = Size | UNetSize | Planned
MODELS: dict[str, Architecture] = {**SIZES, **UNETS, **PLANNED}


def size_named(name: str) -> Architecture:
    """The architecture of a name, or a UserError with the nearest known one."""
    if name not in MODELS:
        raise UserError(f"unknown model '{name}': {nearest(name, list(MODELS))}")
    return MODELS[name]
