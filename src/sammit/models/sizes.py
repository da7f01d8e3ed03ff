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

    @property
    def step(self) -> int:
        """Input pixels for one of Segment Anything's own logits."""
        return self.patch // 4


SIZES = {
    "sam-tiny": Size("about 1 M parameters, ships with a pretrained backbone", 96, 4, 4, (1, 3), 8, 8, 64, 256, 4, 1),
    "sam-vit-b": Size("SAM ViT-B, 94 M parameters", 768, 12, 12, (2, 5, 8, 11)),
    "sam-vit-l": Size("SAM ViT-L, 312 M parameters", 1024, 24, 16, (5, 11, 17, 23)),
    "sam-vit-h": Size("SAM ViT-H, 641 M parameters", 1280, 32, 16, (7, 15, 23, 31)),
    "medsam-vit-b": Size("MedSAM (2304.12306): SAM ViT-B with its own weights", 768, 12, 12, (2, 5, 8, 11)),
}


@dataclass(frozen=True)
class HieraSize:
    """The numbers of one Segment Anything 2 model. A stage has twice the width and heads of the last one."""

    summary: str
    width: int  # D of the first stage
    heads: int  # of the first stage
    depths: tuple[int, ...]  # blocks of each stage
    global_blocks: tuple[int, ...]
    windows: tuple[int, ...] = (8, 4, 14, 7)  # of each stage; its first block, which pools, has that of the one before
    background: int = 7  # side of the grid of absolute positions
    neck: int = 256
    decoder_mlp: int = 2048
    decoder_heads: int = 8
    patch: int = 32  # image sides must be multiples: the last stage's step
    step: int = 4
    stride: int = 2

    @property
    def depth(self) -> int:
        """Blocks of the encoder."""
        return sum(self.depths)

    @property
    def widths(self) -> tuple[int, ...]:
        """D of each stage."""
        return tuple(self.width * 2**stage for stage in range(len(self.depths)))


HIERAS = {
    "sam2-nano": HieraSize(
        "0.3 M parameters in the shape of SAM 2, for trials from a random start",
        16,
        1,
        (1, 1, 2, 1),
        (3,),
        neck=32,
        decoder_mlp=64,
        decoder_heads=4,
    ),
    "sam2-tiny": HieraSize("SAM 2 (2408.00714) Hiera-T, 31 M parameters", 96, 1, (1, 2, 7, 2), (5, 7, 9)),
    "sam2-small": HieraSize("SAM 2 Hiera-S, 38 M parameters", 96, 1, (1, 2, 11, 2), (7, 10, 13)),
    "sam2-base-plus": HieraSize("SAM 2 Hiera-B+, 73 M parameters", 112, 2, (2, 3, 16, 3), (12, 16, 20), background=14),
    "sam2-large": HieraSize("SAM 2 Hiera-L, 216 M parameters", 144, 2, (2, 6, 36, 4), (23, 33, 43), (8, 4, 16, 8)),
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

Architecture = Size | HieraSize | UNetSize | Planned
MODELS: dict[str, Architecture] = {**SIZES, **HIERAS, **UNETS, **PLANNED}


def size_named(name: str) -> Architecture:
    """The architecture of a name, or a UserError with the nearest known one."""
    if name not in MODELS:
        raise UserError(f"unknown model '{name}': {nearest(name, list(MODELS))}")
    return MODELS[name]
