"""The three ways in which SAM's tensors are named, and how to tell them apart and rename them to Sammit's.

`official`: Meta's segment-anything and sam2, also MedSAM's. `transformers`: a `SamModel`, a `Sam2Model`, or the image
part of a `Sam2VideoModel`. `sammit`: what Sammit writes, which is transformers' names without the prompt encoder; in
SAM 2 blocks and attention have the names that they have in SAM. Works on names and shapes only.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Literal, Protocol, TypeVar

from sammit.models.sizes import HIERAS, SIZES

Layout = Literal["official", "transformers", "sammit"]


class Shaped(Protocol):
    """Anything with a shape: a tensor, or what a file's header says of one."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Sides, outermost first."""
        ...


S = TypeVar("S", bound=Shaped)

# Applied in this order, each to the outcome of the one before.
_OFFICIAL = [
    (r"^image_encoder\.blocks\.", "vision_encoder.layers."),
    (r"^image_encoder\.patch_embed\.proj\.", "vision_encoder.patch_embed.projection."),
    (r"^image_encoder\.neck\.0\.", "vision_encoder.neck.conv1."),
    (r"^image_encoder\.neck\.1\.", "vision_encoder.neck.layer_norm1."),
    (r"^image_encoder\.neck\.2\.", "vision_encoder.neck.conv2."),
    (r"^image_encoder\.neck\.3\.", "vision_encoder.neck.layer_norm2."),
    (r"^image_encoder\.neck\.convs\.(\d)\.conv\.", r"vision_encoder.neck.convs.\1."),
    (r"^image_encoder\.trunk\.blocks\.", "vision_encoder.layers."),
    (r"^image_encoder\.trunk\.patch_embed\.proj\.", "vision_encoder.patch_embed.projection."),
    (r"^image_encoder\.trunk\.", "vision_encoder."),
    (r"^image_encoder\.", "vision_encoder."),
    (r"^sam_(mask_decoder|prompt_encoder)\.", r"\1."),
    (r"\.mlp\.layers\.0\.", ".mlp.proj_in."),
    (r"\.mlp\.layers\.1\.", ".mlp.proj_out."),
    (r"^no_mem_embed$", "no_memory_embedding"),
    (r"^mask_decoder\.output_upscaling\.0\.", "mask_decoder.upscale_conv1."),
    (r"^mask_decoder\.output_upscaling\.1\.", "mask_decoder.upscale_layer_norm."),
    (r"^mask_decoder\.output_upscaling\.3\.", "mask_decoder.upscale_conv2."),
    (r"^(mask_decoder\.output_hypernetworks_mlps\.\d+)\.layers\.0\.", r"\1.proj_in."),
    (r"^(mask_decoder\.output_hypernetworks_mlps\.\d+)\.layers\.2\.", r"\1.proj_out."),
    (r"^(mask_decoder\.output_hypernetworks_mlps\.\d+)\.layers\.1\.", r"\1.layers.0."),
    (r"\.norm(\d)\.", r".layer_norm\1."),
    (r"\.norm_final_attn\.", ".layer_norm_final_attn."),
    (r"^prompt_encoder\.pe_layer\.positional_encoding_gaussian_matrix$", "positions.positional_embedding"),
    (r"^prompt_encoder\.no_mask_embed\.", "no_mask_embed."),
]
_TRANSFORMERS = [
    (r"^shared_image_embedding\.", "positions."),
    # The same matrix under its second name: a file may keep either.
    (r"^prompt_encoder\.shared_embedding\.", "positions."),
    (r"^prompt_encoder\.no_mask_embed\.", "no_mask_embed."),
    (r"^vision_encoder\.backbone\.blocks\.", "vision_encoder.layers."),
    (r"^vision_encoder\.backbone\.", "vision_encoder."),
    (r"^(mask_decoder\.transformer\..*)\.o_proj\.", r"\1.out_proj."),
]
_RULES: dict[Layout, list[tuple[str, str]]] = {"official": _OFFICIAL, "transformers": _TRANSFORMERS, "sammit": []}

# Never built, because the prompt-free path gives them no gradient; a file may hold them.
_DEAD = re.compile(
    r"^(prompt_encoder\.|mask_decoder\.(iou_prediction|pred_obj_score)_head\.|pixel_(mean|std)$"
    # Memory and pointers to objects, with which SAM 2 follows them through a video.
    r"|memory_|maskmem_|mask_downsample\.|obj_ptr_|object_pointer_|no_obj|no_object_|no_mem_pos_enc$"
    r"|no_memory_positional_|temporal_positional_|occlusion_spatial_)"
)
_ADAPTER = re.compile(r"(?:^|\.)adapters\.([^.]+)\.")
_HYPERNETWORK = re.compile(r"^mask_decoder\.output_hypernetworks_mlps\.(\d+)\.")
_LAYER = re.compile(r"^vision_encoder\.layers\.(\d+)\.")


def layout_of(names: Iterable[str]) -> Layout | None:
    """Which of the three layouts these names belong to; None if none."""
    first = {name.partition(".")[0] for name in names}
    if "image_encoder" in first and first & {"mask_decoder", "sam_mask_decoder"}:
        return "official"
    if "vision_encoder" not in first:
        return None
    return "transformers" if first & {"shared_image_embedding", "prompt_encoder"} else "sammit"


def renamed(tensors: Mapping[str, S], layout: Layout) -> dict[str, S]:
    """The tensors under Sammit's names, without those that the prompt-free path never uses."""
    found = {}
    for name, tensor in tensors.items():
        for pattern, replacement in _RULES[layout]:
            name = re.sub(pattern, replacement, name)
        if not _DEAD.match(name):
            found[name] = tensor
    return found


def adapter_of(name: str) -> str | None:
    """The adapter to which a tensor belongs; None for a tensor of the base model."""
    match = _ADAPTER.search(name)
    return match.group(1) if match else None


def hypernetwork_of(name: str) -> int | None:
    """The mask token whose hypernetwork a tensor belongs to; None for other tensors."""
    match = _HYPERNETWORK.match(name)
    return int(match.group(1)) if match else None


def fitting(tensors: Mapping[str, Shaped]) -> list[str]:
    """Names of the architectures whose encoder and decoder these tensors (under Sammit's names) fit."""
    depth = len({match.group(1) for name in tensors if (match := _LAYER.match(name))})
    try:
        width, _, patch, _ = tensors["vision_encoder.patch_embed.projection.weight"].shape
        if "vision_encoder.pos_embed_window" in tensors:
            return _fitting_hiera(tensors, width, depth)
        neck = tensors["vision_encoder.neck.conv2.weight"].shape[0]
        head = tensors["vision_encoder.layers.0.attn.rel_pos_h"].shape[1]
        mlp = tensors["mask_decoder.transformer.layers.0.mlp.lin1.weight"].shape[0]
    except (KeyError, ValueError, IndexError):
        return []
    given = (width, depth, patch, neck, head, mlp)
    return [
        name
        for name, size in SIZES.items()
        if (size.width, size.depth, size.patch, size.neck, size.width // size.heads, size.decoder_mlp) == given
    ]


def _fitting_hiera(tensors: Mapping[str, Shaped], width: int, depth: int) -> list[str]:
    """Names of the architectures of SAM 2 that these tensors fit; KeyError or IndexError where they fit none."""
    background = tensors["vision_encoder.pos_embed"].shape[2]
    neck = tensors["vision_encoder.neck.convs.0.weight"].shape[0]
    mlp = tensors["mask_decoder.transformer.layers.0.mlp.proj_in.weight"].shape[0]
    given = (width, depth, background, neck, mlp)
    return [
        name
        for name, size in HIERAS.items()
        if (size.width, size.depth, size.background, size.neck, size.decoder_mlp) == given
    ]
