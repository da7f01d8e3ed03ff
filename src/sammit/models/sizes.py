"""The numbers of every architecture: the only place where they are written. Imports no torch, so listing is quick."""

from __future__ import annotations

from dataclasses import dataclass

from sammit.errors import UserError, nearest


@dataclass(frozen=True)
class Size:
    """The numbers of one architecture."""

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


def size_named(name: str) -> Size:
    """The architecture of a name, or a UserError with the nearest known one."""
    if name not in SIZES:
        raise UserError(f"unknown model '{name}': {nearest(name, list(SIZES))}")
    return SIZES[name]
