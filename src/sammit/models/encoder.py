"""Image encoders' blocks, and SAM's encoder: transformers' weights and names, places for adapters, fused attention."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torch.utils.checkpoint import checkpoint

from sammit.models.adapters.base import Adapter, with_adapters
from sammit.models.attention import Tables, attention, windowed_attention
from sammit.models.products import swap_linears, ways_of_ours

AT_ONCE = 1024
"""How many tokens an MLP is given at a time in use."""


class Block(nn.Module):
    """One transformer block over the modules of a `SamVisionLayer`, or a like one of another encoder, with adapters.

    Attributes:
        adapters: by name, in the order they are applied.
        window: side of the attention windows in tokens; 0 for global attention.
    """

    def __init__(self, layer: Any) -> None:
        super().__init__()
        swap_linears(layer)
        self.layer_norm1, self.attn = layer.layer_norm1, layer.attn
        self.layer_norm2, self.mlp = layer.layer_norm2, layer.mlp
        self.window: int = layer.window_size
        self.adapters = nn.ModuleDict()

    @property
    def width(self) -> int:
        """D, the number of channels of a token that leaves the block, and of what adapters are given."""
        return int(self.attn.proj.out_features)

    @property
    def heads(self) -> int:
        """Of the attention."""
        return int(self.attn.num_attention_heads)

    @property
    def tables(self) -> Tables | None:
        """Relative positions; None where the model has none."""
        return (self.attn.rel_pos_h, self.attn.rel_pos_w) if getattr(self.attn, "use_rel_pos", False) else None

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, h, w, D) -> (B, h, w, D)."""
        normed = self.layer_norm1(tokens)
        return self.joined(tokens, normed, self._attend(normed))

    def joined(self, skip: Tensor, given: Tensor, attended: Tensor) -> Tensor:
        """(B, h, w, D) each: what passes the attention by, what adapters beside it are given, what it found."""
        adapted = with_adapters(self.adapters, "after_attention", attended, attended)
        tokens = skip + with_adapters(self.adapters, "beside_attention", given, adapted)
        normed = self.layer_norm2(tokens)
        return tokens + with_adapters(self.adapters, "beside_mlp", normed, self._through_mlp(normed))

    def _through_mlp(self, normed: Tensor) -> Tensor:
        """(B, h, w, D) -> (B, h, w, E).

        On a processor, where nothing is kept for a backward pass, it is some tokens at a time: what is between the two
        layers, four times as wide, then stays in cache.
        """
        pieces = torch.split(normed.flatten(0, 2), AT_ONCE)
        if len(pieces) == 1 or torch.is_grad_enabled() or not ways_of_ours(normed):
            return self.mlp(normed)  # type: ignore[no-any-return]
        return torch.cat([self.mlp(piece) for piece in pieces]).reshape(*normed.shape[:3], -1)

    def _attend(self, normed: Tensor) -> Tensor:
        """(B, h, w, D) -> (B, h, w, D), in windows where the block has them."""
        qkv = with_adapters(self.adapters, "to_qkv", normed, self.attn.qkv(normed))
        if self.window:
            mixed = windowed_attention(qkv, self.heads, self.tables, self.window, self.filler(normed, qkv))
        else:
            mixed = attention(qkv, self.heads, self.tables)
        return self.attn.proj(mixed)  # type: ignore[no-any-return]

    def filler(self, normed: Tensor, qkv: Tensor) -> Tensor | None:
        """(3 D,) the qkv of a token of zeros, with which the original fills windows up: the layer's bias.

        None where every window is whole.
        """
        if not self.window or not any(side % self.window for side in normed.shape[1:3]):
            return None
        nothing = normed.new_zeros(normed.shape[-1])
        bias = self.attn.qkv.bias
        base = nothing.repeat(3) if bias is None else bias
        return with_adapters(self.adapters, "to_qkv", self.shown(nothing), base).to(qkv)

    def shown(self, normed: Tensor) -> Tensor:
        """(..., D) what attention is given -> (..., D), the same as adapters see it."""
        return normed


class Blocks(nn.Module):
    """What every encoder of blocks has.

    Attributes:
        patch: image sides must be multiples of it, pixels.
        step: pixels of the image for one of Segment Anything's own logits.
        layers: the blocks.
        cut: how many of the first blocks belong to the prefix, which may be given instead of being computed.
        checkpointing: keep what each block is given, not what it makes on its way; the backward pass runs it again.
    """

    patch: int
    step: int
    layers: nn.ModuleList
    cut: int = 0
    checkpointing: bool = False

    @property
    def blocks(self) -> list[Block]:
        """The blocks in the order they are run."""
        return [layer for layer in self.layers if isinstance(layer, Block)]

    def prefix(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, ...), what the first `cut` blocks make of images."""
        raise NotImplementedError

    def prefix_shape(self, height: int, width: int) -> tuple[int, ...]:
        """Sides of the prefix of an image of (H, W) pixels."""
        raise NotImplementedError

    def through(self, blocks: Iterable[Block], tokens: Tensor) -> Tensor:
        """(B, h, w, D) -> (B, h, w, D), block after block."""
        for block in blocks:
            if self.checkpointing and torch.is_grad_enabled():
                tokens = checkpoint(block, tokens, use_reentrant=False, context_fn=partial(_passes, block))
            else:
                tokens = block(tokens)
        return tokens


class Encoder(Blocks):
    """Image to embedding; names and tensors are those of transformers' `SamVisionEncoder`."""

    def __init__(self, original: Any) -> None:
        super().__init__()
        self.patch = original.config.patch_size
        self.step = self.patch // 4
        self.patch_embed = original.patch_embed
        self.pos_embed = original.pos_embed
        self.layers = nn.ModuleList(Block(layer) for layer in original.layers)
        self.neck = original.neck

    def forward(self, pixels: Tensor, prefix: Tensor | None = None) -> Tensor:
        """(B, 3, H, W) normalised, sides multiples of the patch -> (B, neck, H / patch, W / patch).

        Args:
            pixels: of the images.
            prefix: what `prefix` gave for these pixels, in any precision; then only what follows it is run.
        """
        tokens = self.prefix(pixels) if prefix is None else prefix.to(pixels.dtype)
        return self.neck(self.through(self.blocks[self.cut :], tokens))  # type: ignore[no-any-return]

    def prefix(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, H / patch, W / patch, D), the tokens that the block after the cut is given."""
        tokens: Tensor = self.patch_embed.projection(pixels).permute(0, 2, 3, 1).contiguous()
        if self.pos_embed is not None:
            tokens = tokens + resized_grid(self.pos_embed, tokens.shape[1], tokens.shape[2])
        return self.through(self.blocks[: self.cut], tokens)

    def prefix_shape(self, height: int, width: int) -> tuple[int, ...]:
        """Sides of an image's prefix, (H, W) pixels: rows, columns, D."""
        return height // self.patch, width // self.patch, self.blocks[0].width


def _passes(block: Block) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """What is around a block's first pass and around those that are run again."""
    return nullcontext(), _Again(block)


class _Again(AbstractContextManager[None]):
    """Within, a block is as it was when this was made, and its adapters leave no trace of a pass.

    Between the passes of one loss, methods switch adapters and call the model with other tensors. And adapters note
    things in a pass (loads, balance, pooled channels), which would count twice and hold on to what is computed again.
    """

    def __init__(self, block: Block) -> None:
        self.then = [(module, _as_set(module)) for module in block.modules()]

    def __enter__(self) -> None:
        self.now = [(module, dict(vars(module))) for module, _ in self.then]
        for module, then in self.then:
            vars(module).update(then)

    def __exit__(self, *_: object) -> None:
        for module, now in self.now:
            vars(module).clear()
            vars(module).update(now)


def _as_set(module: nn.Module) -> dict[str, Any]:
    """What decides a pass of a module and may be set from outside: its tensors, and an adapter's switches."""
    tensors: dict[str, Any] = {"_parameters": dict(module._parameters)}
    return {**tensors, "active": module.active, "weight": module.weight} if isinstance(module, Adapter) else tensors


def resized_grid(positions: Tensor, height: int, width: int) -> Tensor:
    """(1, h, w, D) absolute positions -> (1, height, width, D), bicubic where the grid differs."""
    if positions.shape[1:3] == (height, width):
        return positions
    grid = interpolate(positions.permute(0, 3, 1, 2), size=(height, width), mode="bicubic", align_corners=False)
    return grid.permute(0, 2, 3, 1)
