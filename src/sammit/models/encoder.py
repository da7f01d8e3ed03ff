"""The image encoder: transformers' weights and names, with places for adapters and attention that stays fused.

SAM's attention adds a bias that depends on q: rel_h[q, k_row] + rel_w[q, k_col]. Handed to fused attention as a mask,
that bias needs a gradient and drops it to the slow path. Folded into longer vectors it is plain attention:

    q' = [q * s, q R_h, q R_w]      k' = [k, onehot(row), onehot(column)]      q' k'^T = s q k^T + bias
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad, scaled_dot_product_attention

from sammit.models.adapters.base import with_adapters


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
        """(B, h, w, D) -> (B, h, w, D), in windows where the block has them.

        The grid is padded to whole windows with zeros; padded tokens are attended to, as in the original.
        """
        if not self.window:
            return self._attention(normed)
        _, height, width, _ = normed.shape
        windows, padded = _partition(normed, self.window)
        return _unpartition(self._attention(windows), self.window, padded)[:, :height, :width]

    def _attention(self, tokens: Tensor) -> Tensor:
        """(B, h, w, D) -> (B, h, w, D), all tokens of a row of the batch among themselves."""
        batch, height, width, _ = tokens.shape
        heads = self.attn.num_attention_heads
        qkv = with_adapters(self.adapters, "to_qkv", tokens, self.attn.qkv(tokens))
        q, k, v = qkv.reshape(batch, height * width, 3, heads, -1).permute(2, 0, 3, 1, 4)
        if self.attn.use_rel_pos:
            mixed = _folded_attention(q, k, v, self.attn.rel_pos_h, self.attn.rel_pos_w, (height, width))
        else:
            mixed = scaled_dot_product_attention(q, k, v)
        return self.attn.proj(mixed.transpose(1, 2).reshape(batch, height, width, -1))  # type: ignore[no-any-return]


def _folded_attention(q: Tensor, k: Tensor, v: Tensor, rel_h: Tensor, rel_w: Tensor, grid: tuple[int, int]) -> Tensor:
    """(B, heads, h * w, d) each -> the same; the relative positions folded into q and k."""
    height, width = grid
    table_h, table_w = _relative(rel_h, height), _relative(rel_w, width)
    by_place = q.reshape(*q.shape[:2], height, width, q.shape[-1])
    bias_h = torch.einsum("bnhwc,hkc->bnhwk", by_place, table_h).flatten(2, 3)
    bias_w = torch.einsum("bnhwc,wkc->bnhwk", by_place, table_w).flatten(2, 3)
    rows = torch.eye(height, dtype=k.dtype, device=k.device).repeat_interleave(width, 0)
    columns = torch.eye(width, dtype=k.dtype, device=k.device).repeat(height, 1)
    places = torch.cat([rows, columns], dim=1).expand(*k.shape[:2], -1, -1)
    long_q = torch.cat([q * q.shape[-1] ** -0.5, bias_h, bias_w], dim=-1)
    long_k = torch.cat([k, places], dim=-1)
    # Fused kernels want one width for q, k and v.
    long_v = pad(v, (0, height + width))
    return scaled_dot_product_attention(long_q, long_k, long_v, scale=1.0)[..., : v.shape[-1]]


def _relative(table: Tensor, size: int) -> Tensor:
    """(L, d) offsets -> (size, size, d), entry [i, j] for offset i - j; resized where L is not 2 size - 1."""
    length = 2 * size - 1
    if table.shape[0] != length:
        table = interpolate(table.T.unsqueeze(0), size=length, mode="linear")[0].T
    place = torch.arange(size, device=table.device)
    return table[place[:, None] - place[None, :] + size - 1]


def _partition(tokens: Tensor, window: int) -> tuple[Tensor, tuple[int, int]]:
    """(B, h, w, D) -> (B * windows, window, window, D) and the padded (h, w)."""
    batch, height, width, depth = tokens.shape
    tokens = pad(tokens, (0, 0, 0, -width % window, 0, -height % window))
    rows, columns = tokens.shape[1] // window, tokens.shape[2] // window
    tokens = tokens.reshape(batch, rows, window, columns, window, depth).transpose(2, 3)
    return tokens.reshape(-1, window, window, depth), (rows * window, columns * window)


def _unpartition(windows: Tensor, window: int, padded: tuple[int, int]) -> Tensor:
    """The inverse of `_partition`, padding still in place."""
    rows, columns = padded[0] // window, padded[1] // window
    tokens = windows.reshape(-1, rows, columns, window, window, windows.shape[-1]).transpose(2, 3)
    return tokens.reshape(-1, *padded, windows.shape[-1])


class Encoder(nn.Module):
    """Image to embedding; names and tensors are those of transformers' `SamVisionEncoder`."""

    def __init__(self, original: Any) -> None:
        super().__init__()
        self.projection_size: int = original.config.patch_size
        self.patch_embed = original.patch_embed
        self.pos_embed = original.pos_embed
        self.layers = nn.ModuleList(Block(layer) for layer in original.layers)
        self.neck = original.neck

    @property
    def width(self) -> int:
        """D, the number of channels of a token."""
        return int(self.patch_embed.projection.out_channels)

    @property
    def blocks(self) -> list[Block]:
        """The blocks in the order they are run."""
        return [layer for layer in self.layers if isinstance(layer, Block)]

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) normalised, sides multiples of the patch -> (B, neck, H / patch, W / patch)."""
        tokens = self.patch_embed.projection(pixels).permute(0, 2, 3, 1)
        if self.pos_embed is not None:
            tokens = tokens + resized_grid(self.pos_embed, tokens.shape[1], tokens.shape[2])
        for layer in self.layers:
            tokens = layer(tokens)
        return self.neck(tokens)  # type: ignore[no-any-return]


def resized_grid(positions: Tensor, height: int, width: int) -> Tensor:
    """(1, h, w, D) absolute positions -> (1, height, width, D), bicubic where the grid differs."""
    if positions.shape[1:3] == (height, width):
        return positions
    grid = interpolate(positions.permute(0, 3, 1, 2), size=(height, width), mode="bicubic", align_corners=False)
    return grid.permute(0, 2, 3, 1)
