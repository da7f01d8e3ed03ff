"""The image encoder: transformers' weights and names, with places for adapters and attention that stays fused."""

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
from sammit.models.attention import attention, windowed_attention


class Block(nn.Module):
    """One transformer block over the modules of a `SamVisionLayer`, with adapters.

    Attributes:
        adapters: by name, in the order they are applied.
        window: side of the attention windows in tokens; 0 for global attention.
    """

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.layer_norm1, self.attn = layer.layer_norm1, layer.attn
        self.layer_norm2, self.mlp = layer.layer_norm2, layer.mlp
        self.window: int = layer.window_size
        self.adapters = nn.ModuleDict()

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, h, w, D) -> (B, h, w, D)."""
        normed = self.layer_norm1(tokens)
        attended = self._attend(normed)
        adapted = with_adapters(self.adapters, "after_attention", attended, attended)
        tokens = tokens + with_adapters(self.adapters, "beside_attention", normed, adapted)
        normed = self.layer_norm2(tokens)
        return tokens + with_adapters(self.adapters, "beside_mlp", normed, self.mlp(normed))

    def _attend(self, normed: Tensor) -> Tensor:
        """(B, h, w, D) -> (B, h, w, D), in windows where the block has them."""
        attn = self.attn
        heads: int = attn.num_attention_heads
        tables = (attn.rel_pos_h, attn.rel_pos_w) if attn.use_rel_pos else None
        qkv = with_adapters(self.adapters, "to_qkv", normed, attn.qkv(normed))
        if self.window:
            mixed = windowed_attention(qkv, heads, tables, self.window, self._filler(normed, qkv))
        else:
            mixed = attention(qkv, heads, tables)
        return attn.proj(mixed)  # type: ignore[no-any-return]

    def _filler(self, normed: Tensor, qkv: Tensor) -> Tensor | None:
        """(3 D,) the qkv of a token of zeros, with which the original fills windows up: the layer's bias.

        None where every window is whole.
        """
        if not any(side % self.window for side in normed.shape[1:3]):
            return None
        nothing = normed.new_zeros(normed.shape[-1])
        bias = self.attn.qkv.bias
        return with_adapters(self.adapters, "to_qkv", nothing, nothing.repeat(3) if bias is None else bias).to(qkv)


class Encoder(nn.Module):
    """Image to embedding; names and tensors are those of transformers' `SamVisionEncoder`.

    Attributes:
        cut: how many of the first blocks belong to the prefix, which may be given instead of being computed.
        checkpointing: keep what each block is given, not what it makes on its way; the backward pass runs it again.
    """

    def __init__(self, original: Any) -> None:
        super().__init__()
        self.projection_size: int = original.config.patch_size
        self.patch_embed = original.patch_embed
        self.pos_embed = original.pos_embed
        self.layers = nn.ModuleList(Block(layer) for layer in original.layers)
        self.neck = original.neck
        self.cut = 0
        self.checkpointing = False

    @property
    def width(self) -> int:
        """D, the number of channels of a token."""
        return int(self.patch_embed.projection.out_channels)

    @property
    def blocks(self) -> list[Block]:
        """The blocks in the order they are run."""
        return [layer for layer in self.layers if isinstance(layer, Block)]

    def forward(self, pixels: Tensor, prefix: Tensor | None = None) -> Tensor:
        """(B, 3, H, W) normalised, sides multiples of the patch -> (B, neck, H / patch, W / patch).

        Args:
            pixels: of the images.
            prefix: what `prefix` gave for these pixels, in any precision; then only what follows it is run.
        """
        tokens = self.prefix(pixels) if prefix is None else prefix.to(pixels.dtype)
        return self.neck(self._through(self.blocks[self.cut :], tokens))  # type: ignore[no-any-return]

    def prefix(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, H / patch, W / patch, D), the tokens that the block after the cut is given."""
        tokens: Tensor = self.patch_embed.projection(pixels).permute(0, 2, 3, 1)
        if self.pos_embed is not None:
            tokens = tokens + resized_grid(self.pos_embed, tokens.shape[1], tokens.shape[2])
        return self._through(self.blocks[: self.cut], tokens)

    def _through(self, blocks: Iterable[Block], tokens: Tensor) -> Tensor:
        """(B, h, w, D) -> (B, h, w, D), block after block."""
        for block in blocks:
            if self.checkpointing and torch.is_grad_enabled():
                tokens = checkpoint(block, tokens, use_reentrant=False, context_fn=partial(_passes, block))
            else:
                tokens = block(tokens)
        return tokens


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
