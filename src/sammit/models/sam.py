"""Prompt-free Segment Anything (Kirillov et al., 2304.02643): an image in, one logit map for each structure out.

The decoder runs without prompts: its own tokens, the dense positional encoding, and (as in the original, switchable
for FedFMS's path) the no-mask embedding added to the image embedding. What never gets a gradient on this path is not
built, so it is neither trained nor sent: the IoU head, the hypernetworks of unused mask tokens, the prompt encoder.

SAM's own logits have a quarter of the token grid's step. Where a finer map is asked for, `Detail` refines the upscaled
embedding with features of the image itself, as HQ-SAM (2306.01567) and SAM 2 do; it starts at zero, so that at first
the map is SAM's own, resized.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from sammit.geometry import resize
from sammit.models.encoder import Blocks, Encoder
from sammit.models.precision import Computing

PIXEL_MEAN = (123.675, 116.28, 103.53)
PIXEL_STD = (58.395, 57.12, 57.375)


class PromptFreeSam(Computing):
    """The model that is trained, sent and used.

    Attributes:
        patch: side of a patch, pixels; image sides must be multiples of it.
        stride: input pixels for one logit pixel.
        tokens: the decoder's tokens before those of the masks.
        dead: the decoder's heads that never get a gradient here.
    """

    tokens: ClassVar[tuple[str, ...]] = ("iou_token",)
    dead: ClassVar[tuple[str, ...]] = ("iou_prediction_head",)

    def __init__(
        self,
        original: Any,
        structures: int,
        *,
        stride: int,
        mix: bool = False,
        normalise: bool = True,
        no_mask: bool = True,
    ) -> None:
        """
        Args:
            original: a transformers `SamModel`, whose modules are taken over.
            structures: C.
            stride: input pixels for one logit pixel, Segment Anything's own or finer.
            mix: FedFMS's head, a 1x1 convolution from four mask tokens to C > 1 structures, instead of a token each.
            normalise: apply SAM's pixel mean and deviation.
            no_mask: add the no-mask embedding.
        """
        super().__init__()
        self.vision_encoder = self._encoder(original.vision_encoder)
        self.mask_decoder = original.mask_decoder
        self.positions = original.shared_image_embedding
        self.no_mask_embed = original.prompt_encoder.no_mask_embed
        self.patch = self.vision_encoder.patch
        self.stride = stride
        self.no_mask = no_mask
        self.mixer = nn.Conv2d(4, structures, kernel_size=1) if mix and structures > 1 else None
        used = 4 if self.mixer else structures
        self.mask_decoder.output_hypernetworks_mlps = self.mask_decoder.output_hypernetworks_mlps[:used]
        for head in self.dead:
            delattr(self.mask_decoder, head)
        channels = self.mask_decoder.hidden_size // 8
        self.detail = Detail(channels, stride) if stride < self.vision_encoder.step else None
        mean, std = (PIXEL_MEAN, PIXEL_STD) if normalise else ((0.0,) * 3, (255.0,) * 3)
        self.register_buffer("pixel_mean", torch.tensor(mean).view(3, 1, 1) / 255, persistent=False)
        self.register_buffer("pixel_std", torch.tensor(std).view(3, 1, 1) / 255, persistent=False)

    def forward(self, images: Tensor, prefix: Tensor | None = None) -> Tensor:
        """(B, 3, H, W) in [0, 1], sides multiples of the patch -> (B, C, H / stride, W / stride) logits.

        Args:
            images: what the model sees.
            prefix: what `prefix` gave for these images, if it is at hand; the logits are the same.
        """
        pixels = self._pixels(images)
        with self.computing(images.device):
            logits = self._decode(self.vision_encoder(pixels, prefix), pixels)
        return logits.float() if self.in_bf16 else logits

    def prefix(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> (B, ...), what the encoder's first `cut` blocks make of them."""
        with self.computing(images.device):
            return self.vision_encoder.prefix(self._pixels(images))

    def _encoder(self, original: Any) -> Blocks:
        """The encoder over the original's modules."""
        return Encoder(original)

    def _pixels(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> the same as the encoder is given it."""
        if images.shape[-2] % self.patch or images.shape[-1] % self.patch:
            # The patch convolution would drop the rest in silence and shift the map.
            raise ValueError(f"sides {tuple(images.shape[-2:])} must be multiples of the patch, {self.patch}")
        return (images - self.pixel_mean) / self.pixel_std  # type: ignore[operator]

    def _decode(self, embedding: Any, pixels: Tensor) -> Tensor:
        """What the encoder says, (B, X, h, w), and (B, 3, H, W) pixels -> (B, C, H / stride, W / stride) logits."""
        decoder = self.mask_decoder
        spoken, source = self._spoken(embedding)
        fine = decoder.activation(decoder.upscale_layer_norm(decoder.upscale_conv1(source)))
        return self._masks(spoken, decoder.activation(decoder.upscale_conv2(fine)), pixels)

    def _spoken(self, embedding: Tensor) -> tuple[Tensor, Tensor]:
        """(B, X, h, w) -> (B, n, X) the masks' tokens and (B, X, h, w) the embedding, once they have met."""
        decoder = self.mask_decoder
        batch, _, height, width = embedding.shape
        tokens = torch.cat([getattr(decoder, name).weight for name in (*self.tokens, "mask_tokens")])
        if self.no_mask:
            embedding = embedding + self.no_mask_embed.weight.reshape(1, -1, 1, 1)
        spoken, source = decoder.transformer(
            point_embeddings=tokens.expand(batch, 1, -1, -1),
            image_embeddings=embedding,
            image_positional_embeddings=self._grid_positions(height, width).expand(batch, -1, -1, -1),
            attention_similarity=None,
        )
        return spoken[:, 0, len(self.tokens) :], source.transpose(2, 3).reshape(batch, -1, height, width)

    def _masks(self, spoken: Tensor, fine: Tensor, pixels: Tensor) -> Tensor:
        """(B, n, X) tokens, (B, X / 8, 4 h, 4 w) upscaled and the pixels -> (B, C, H / stride, W / stride) logits."""
        if self.detail is not None:
            fine = self.detail(fine, pixels)
        heads = self.mask_decoder.output_hypernetworks_mlps
        hyper = torch.stack([head(spoken[:, i]) for i, head in enumerate(heads)], dim=1)
        logits = torch.einsum("bcx,bxhw->bchw", hyper, fine)
        return self.mixer(logits) if self.mixer else logits

    def _grid_positions(self, height: int, width: int) -> Tensor:
        """(1, X, h, w): SAM's random Fourier features of the centres of the grid's cells."""
        device = self.no_mask_embed.weight.device
        y = (torch.arange(height, device=device) + 0.5) / height
        x = (torch.arange(width, device=device) + 0.5) / width
        places = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], dim=-1)
        with torch.autocast(device.type, enabled=False):  # a phase of many turns has no digit to lose
            return self.positions(places).permute(2, 0, 1).unsqueeze(0)  # type: ignore[no-any-return]


class Detail(nn.Module):
    """Refines SAM's upscaled embedding at a finer step with the image's own features; the last layer starts at zero.

    The map is linear in the embedding, so that before training the refined logits are SAM's, resized.
    """

    def __init__(self, channels: int, stride: int, hidden: int = 16) -> None:
        super().__init__()
        self.stride = stride
        self.join = nn.Conv2d(3 + channels, hidden, 3, padding=1)
        self.refine = nn.Conv2d(hidden, hidden, 3, padding=2, dilation=2)
        self.out = nn.Conv2d(hidden, channels, 3, padding=1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)  # type: ignore[arg-type]

    def forward(self, fine: Tensor, pixels: Tensor) -> Tensor:
        """(B, X, h, w) embedding, (B, 3, H, W) pixels -> (B, X, H / stride, W / stride)."""
        shape = (pixels.shape[-2] // self.stride, pixels.shape[-1] // self.stride)
        fine = resize(fine, shape)
        both = torch.cat([resize(pixels, shape), fine], dim=1)
        hidden = self.join(both.contiguous(memory_format=torch.channels_last)).relu()  # few channels: faster so
        change: Tensor = self.out(self.refine(hidden).relu())
        return fine + change
