"""From a recipe's `[model]` to a network."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Any

from sammit.config import ModelConfig
from sammit.errors import UserError
from sammit.models.attach import attach
from sammit.models.blocks import ENTRANCE, LAST, first_of_last
from sammit.models.sizes import MODELS, SIZES, HieraSize, Planned, Size, UNetSize, size_named
from sammit.randomness import key_to_seed

if TYPE_CHECKING:
    from torch import nn

    from sammit.models.nnunet import Nnunet
    from sammit.models.sam import PromptFreeSam
    from sammit.models.unet import ResidualUNet

    Network = PromptFreeSam | ResidualUNet | Nnunet
    """What is trained, sent and used: (B, 3, H, W) in [0, 1] -> (B, C, H / stride, W / stride) logits."""

__all__ = ["MODELS", "SIZES", "Size", "build_model", "set_checkpointing", "set_trainable", "size_named"]


def build_model(config: ModelConfig, image_size: int, structures: int, seed: int) -> Network:
    """A network with its adapters, weights loaded, nothing frozen yet.

    Args:
        config: `[model]`.
        image_size: side of the input in pixels, a multiple of the patch.
        structures: C.
        seed: decides every random initial value; two calls with equal arguments give equal tensors.

    Raises:
        UserError: an unknown name or size, a wrong option, weights that are missing or do not fit.
    """
    import torch

    size = size_named(config.name)
    if image_size % size.patch:
        raise UserError(f"data.size: {image_size} is not a multiple of {size.patch}, as {config.name} needs")
    if isinstance(size, UNetSize | Planned):
        _refuse_extras(config)
    if isinstance(size, Planned):
        return _nnunet(config, seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(key_to_seed(seed, "model"))
        if isinstance(size, UNetSize):
            return _unet(size, structures)
        return _segment_anything(size, config, image_size, structures)


def _refuse_extras(config: ModelConfig) -> None:
    """Raise UserError where a recipe asks for what only Segment Anything has."""
    if config.weights != "random":
        raise UserError(f"model.weights: {config.name} has no published weights; set model.weights = 'random'")
    if config.adapter:
        raise UserError(f"model.adapter: {config.name} has no blocks to put adapters into; leave it empty")


def _unet(size: UNetSize, structures: int) -> ResidualUNet:
    from sammit.models.unet import ResidualUNet

    return ResidualUNet(size, structures)


def _nnunet(config: ModelConfig, seed: int) -> Nnunet:
    from sammit.models.nnunet import Nnunet
    from sammit.nnunet.setup import Setup

    return Nnunet(Setup.of(config), key_to_seed(seed, "model"))


def _segment_anything(size: Size | HieraSize, config: ModelConfig, image_size: int, structures: int) -> PromptFreeSam:
    from sammit.models import weights

    stride = config.output_stride or size.stride
    if stride > size.step:
        raise UserError(f"model.output_stride: at most {size.step} for {config.name}, SAM's own step")
    logging.getLogger("transformers").setLevel(logging.ERROR)
    network, original = _originals(size, image_size, structures)
    model = network(
        original,
        structures,
        stride=stride,
        mix=config.head == "mix",
        normalise=config.normalise,
        no_mask=config.no_mask,
    )
    attach(model, config)
    weights.load_into(model, config)
    return model


def _originals(size: Size | HieraSize, image_size: int, structures: int) -> tuple[type[PromptFreeSam], Any]:
    """The prompt-free model of an architecture, and transformers' model whose modules it takes over."""
    if isinstance(size, HieraSize):
        from transformers import Sam2Model

        from sammit.models import sam2

        return sam2.PromptFreeSam2, Sam2Model(sam2.transformers_config(size, structures))
    from transformers import SamModel

    from sammit.models.sam import PromptFreeSam

    return PromptFreeSam, SamModel(transformers_config(size, image_size, structures))


def transformers_config(size: Size, image_size: int, structures: int) -> Any:
    """The `SamConfig` of the model whose modules the network takes over."""
    from transformers import SamConfig, SamMaskDecoderConfig, SamPromptEncoderConfig, SamVisionConfig

    vision = SamVisionConfig(
        hidden_size=size.width,
        num_hidden_layers=size.depth,
        num_attention_heads=size.heads,
        global_attn_indexes=list(size.global_blocks),
        image_size=image_size,
        patch_size=size.patch,
        window_size=size.window,
        output_channels=size.neck,
        num_pos_feats=size.neck // 2,
        mlp_dim=4 * size.width,
        initializer_range=0.02,  # transformers' own default, 1e-10, leaves a random start without signal
    )
    prompt = SamPromptEncoderConfig(hidden_size=size.neck, image_size=image_size, patch_size=size.patch)
    decoder = SamMaskDecoderConfig(
        hidden_size=size.neck,
        mlp_dim=size.decoder_mlp,
        num_attention_heads=size.decoder_heads,
        num_multimask_outputs=max(4, structures) - 1,
    )
    return SamConfig(vision_config=vision, prompt_encoder_config=prompt, mask_decoder_config=decoder)


def set_checkpointing(model: nn.Module) -> None:
    """Trade time for memory: the encoder's blocks are run again in the backward pass.

    Raises:
        UserError: the model has no such blocks.
    """
    from sammit.models.sam import PromptFreeSam

    if not isinstance(model, PromptFreeSam):
        raise UserError("training.checkpointing: this model has no encoder's blocks to run again; set it to false")
    model.vision_encoder.checkpointing = True


_CONSTANTS = ("positions.", "no_mask_embed.", "no_memory_embedding")
"""With what the names begin of that which stands for prompts and memory that are not there."""

_ADAPTER = re.compile(r"(^|\.)adapters\.")
_HELD = re.compile(r"(^|\.)adapters\..*_rest$")
"""What a server fills beside low-rank factors (models.adapters.factors.rest) is trained by nobody."""


def set_trainable(model: nn.Module, train: str) -> list[str]:
    """Freeze what does not train; returns the live names, in the model's order.

    Args:
        model: from `build_model`.
        train: "all", "last:K" (all but what comes before the encoder's last K blocks; adapters wherever they are),
            "adapters" (adapters and decoder) or "decoder". Prompt-side constants never train.

    Raises:
        UserError: the model has no K blocks.
    """
    early = _before_last(model, train) if train.startswith(LAST) else "vision_encoder."
    live = []
    for name, parameter in model.named_parameters():
        encoder = name.startswith(early) and not _ADAPTER.search(name)
        constant = name.startswith(_CONSTANTS) or bool(_HELD.search(name))
        frozen = constant or (encoder and train != "all") or (bool(_ADAPTER.search(name)) and train == "decoder")
        parameter.requires_grad_(not frozen)
        if not frozen:
            live.append(name)
    return live


def _before_last(model: nn.Module, train: str) -> tuple[str, ...]:
    """With what the names begin of all that the encoder runs before its last K blocks."""
    depth = len(getattr(getattr(model, "vision_encoder", None), "blocks", ()))
    if not depth:
        raise UserError(f"model.train: '{train}' counts the encoder's blocks, and the model has none; use 'all'")
    early = range(first_of_last(train, depth, "model.train"))
    return *ENTRANCE, *(f"vision_encoder.layers.{i}." for i in early)
