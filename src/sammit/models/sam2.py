"""Prompt-free Segment Anything 2 (Ravi et al., 2408.00714) on single images: Hiera, its pyramid, SAM's decoder.

An image in, one logit map for each structure out, as in `sam`. The encoder has four stages, each with half the grid
and twice the width of the one before; a pyramid brings them to one width. The decoder is given the third level, a token
for each 16 pixels as in SAM, with the fourth added to it, and the first two where it upscales.

SAM 2 was made for video. On a single image a learned embedding stands for memory that is not there. Attention over
memories, their encoder and the pointers to objects have no part in it and are not built, nor are the IoU head, the head
that scores presence, the hypernetworks of unused mask tokens, the prompt encoder: none of them gets a gradient here.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from sammit.models.adapters.base import with_adapters
from sammit.models.attention import pooled, pooled_attention
from sammit.models.decoder import adaptable_attentions
from sammit.models.encoder import Block, Blocks
from sammit.models.sam import PromptFreeSam
from sammit.models.sizes import HieraSize

Pyramid = tuple[Tensor, Tensor, Tensor]
"""The embedding, (B, X, h, w), and the finer maps, (B, X, 2 h, 2 w) and (B, X, 4 h, 4 w)."""


class Widening(Block):
    """The first block of a later stage: from D / 2 channels to D, from four neighbours to one token.

    What passes the attention by is its normalised input, projected to D, of four neighbours the largest. Adapters see
    the input of the attention as that: projected, for `to_qkv` before it is pooled. So all they see has D channels.
    """

    def __init__(self, layer: Any) -> None:
        super().__init__(layer)
        self.proj = layer.proj

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, h, w, D / 2), h and w even -> (B, h / 2, w / 2, D)."""
        normed = self.layer_norm1(tokens)
        wide = self.shown(normed)
        qkv = with_adapters(self.adapters, "to_qkv", wide, self.attn.qkv(normed))
        mixed = pooled_attention(qkv, self.heads, self.window, self.filler(normed, qkv))
        skip = pooled(wide)
        return self.joined(skip, skip, self.attn.proj(mixed))

    def shown(self, normed: Tensor) -> Tensor:
        """(..., D / 2) -> (..., D)."""
        return self.proj(normed)  # type: ignore[no-any-return]


class HieraEncoder(Blocks):
    """Image to pyramid over the modules of a `Sam2VisionModel`; names that SAM's encoder has are SAM's."""

    def __init__(self, original: Any) -> None:
        super().__init__()
        backbone = original.backbone
        self.patch_embed = backbone.patch_embed
        self.pos_embed, self.pos_embed_window = backbone.pos_embed, backbone.pos_embed_window
        self.layers = nn.ModuleList(Widening(one) if one.query_stride else Block(one) for one in backbone.blocks)
        self.neck = original.neck
        self.step = self.patch_embed.projection.stride[0]
        self.patch = self.step * 2 ** self._widenings(self.blocks)

    def forward(self, pixels: Tensor, prefix: Tensor | None = None) -> Pyramid:
        """(B, 3, H, W) normalised, sides multiples of the patch -> h is H / 16, w is W / 16.

        Args:
            pixels: of the images.
            prefix: what `prefix` gave for these pixels, in any precision; then only what follows it is run.
        """
        early = self._early(pixels) if prefix is None else self._apart(prefix.to(pixels.dtype), pixels)
        maps = [one.permute(0, 3, 1, 2) for one in self._run(self.blocks[self.cut :], early)]
        top, embedding, middle, fine = (conv(one) for conv, one in zip(self.neck.convs, reversed(maps), strict=True))
        return embedding + interpolate(top, scale_factor=2.0), middle, fine

    def prefix(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, n): what the stages before the cut said, and the tokens that the next block is given."""
        return torch.cat([one.flatten(1) for one in self._early(pixels)], dim=1)

    def prefix_shape(self, height: int, width: int) -> tuple[int, ...]:
        """The number n of an image of (H, W) pixels."""
        return (sum(map(prod, self._shapes(height, width))),)

    def _early(self, pixels: Tensor) -> list[Tensor]:
        """(B, 3, H, W) -> the maps after the first `cut` blocks."""
        tokens: Tensor = self.patch_embed.projection(pixels).permute(0, 2, 3, 1).contiguous()
        return self._run(self.blocks[: self.cut], [tokens + self._positions(*tokens.shape[1:3])])

    def _run(self, blocks: Iterable[Block], maps: list[Tensor]) -> list[Tensor]:
        """Blocks work on the last map; those before it are what whole stages said."""
        for block in blocks:
            done = maps if isinstance(block, Widening) else maps[:-1]
            maps = [*done, self.through([block], maps[-1])]
        return maps

    def _apart(self, prefix: Tensor, pixels: Tensor) -> list[Tensor]:
        """The maps of which `prefix` made one row."""
        shapes = self._shapes(*pixels.shape[2:])
        rows = torch.split(prefix, [prod(shape) for shape in shapes], dim=1)
        return [row.reshape(-1, *shape) for row, shape in zip(rows, shapes, strict=True)]

    def _shapes(self, height: int, width: int) -> list[tuple[int, int, int]]:
        """Rows, columns and channels of the maps after the first `cut` blocks, of an image of (H, W)."""
        scales = [2**stage for stage in range(1 + self._widenings(self.blocks[: self.cut]))]
        channels = self.blocks[0].width
        return [(height // self.step // scale, width // self.step // scale, channels * scale) for scale in scales]

    @staticmethod
    def _widenings(blocks: Iterable[Block]) -> int:
        return sum(isinstance(block, Widening) for block in blocks)

    def _positions(self, height: int, width: int) -> Tensor:
        """(1, h, w, D): a coarse grid over the whole image, and a window's own positions, again and again."""
        window = self.pos_embed_window
        grid = interpolate(self.pos_embed, size=(height, width), mode="bicubic")
        windows = window.tile(1, 1, height // window.shape[2], width // window.shape[3])
        positions: Tensor = grid + windows
        return positions.permute(0, 2, 3, 1)


class PromptFreeSam2(PromptFreeSam):
    """The model that is trained, sent and used; what it is told and what it says is as with `PromptFreeSam`."""

    tokens = ("obj_score_token", "iou_token")
    dead = ("iou_prediction_head", "pred_obj_score_head")

    def __init__(self, original: Any, structures: int, **options: Any) -> None:
        """
        Args:
            original: a transformers `Sam2Model`, whose modules are taken over.
            structures: C.
            options: as those of `PromptFreeSam`.
        """
        super().__init__(original, structures, **options)
        self.no_memory_embedding = original.no_memory_embedding
        adaptable_attentions(self.mask_decoder.transformer)

    def _encoder(self, original: Any) -> HieraEncoder:
        return HieraEncoder(original)

    def _decode(self, seen: Pyramid, pixels: Tensor) -> Tensor:
        """A pyramid and (B, 3, H, W) pixels -> (B, C, H / stride, W / stride) logits."""
        decoder, (embedding, middle, fine) = self.mask_decoder, seen
        spoken, source = self._spoken(embedding + self.no_memory_embedding.reshape(1, -1, 1, 1))
        twice = decoder.upscale_conv1(source) + decoder.conv_s1(middle)
        twice = decoder.activation(decoder.upscale_layer_norm(twice))
        return self._masks(spoken, decoder.activation(decoder.upscale_conv2(twice) + decoder.conv_s0(fine)), pixels)


def transformers_config(size: HieraSize, structures: int) -> Any:
    """The numbers of a `Sam2Model`; the image's are left at their defaults, for no tensor depends on them."""
    from transformers import (
        Sam2Config,
        Sam2HieraDetConfig,
        Sam2MaskDecoderConfig,
        Sam2PromptEncoderConfig,
        Sam2VisionConfig,
    )

    backbone = Sam2HieraDetConfig(
        hidden_size=size.width,
        num_attention_heads=size.heads,
        blocks_per_stage=list(size.depths),
        embed_dim_per_stage=list(size.widths),
        num_attention_heads_per_stage=[size.heads * 2**stage for stage in range(len(size.depths))],
        window_size_per_stage=list(size.windows),
        global_attention_blocks=list(size.global_blocks),
        window_positional_embedding_background_size=[size.background] * 2,
    )
    vision = Sam2VisionConfig(
        backbone_config=backbone, backbone_channel_list=list(reversed(size.widths)), fpn_hidden_size=size.neck
    )
    decoder = Sam2MaskDecoderConfig(
        hidden_size=size.neck,
        mlp_dim=size.decoder_mlp,
        num_attention_heads=size.decoder_heads,
        num_multimask_outputs=max(4, structures) - 1,
    )
    prompt = Sam2PromptEncoderConfig(hidden_size=size.neck)
    return Sam2Config(vision_config=vision, prompt_encoder_config=prompt, mask_decoder_config=decoder)
