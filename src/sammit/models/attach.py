"""Adapters into a network: which of them, under which names, in which blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sammit import plugins
from sammit.config import ModelConfig
from sammit.errors import UserError
from sammit.models.blocks import Place, chosen
from sammit.toml import build

if TYPE_CHECKING:
    from sammit.models.sam import PromptFreeSam

OWN = "own_"
"""An adapter's name with this before it is another one of its kind, which a site may keep to itself."""

DECODER = "decoder_"
"""The file of an adapter of the decoder begins with this; its tensors are named as those of the encoder's."""


def attach(model: PromptFreeSam, config: ModelConfig) -> None:
    """Put each adapter of the recipe where it belongs; "own_lora" is a second "lora" under that name.

    Raises:
        UserError: an unknown adapter, options of one that is not there, a wrong option, or no such choice of blocks.
    """
    from sammit.models.adapters.base import AttentionAdapter
    from sammit.models.decoder import adaptable_attentions

    unused = set(config.options) - set(config.adapter)
    if unused:
        raise UserError(f"[model.{min(unused)}]: no such adapter in model.adapter = {list(config.adapter)}")
    encoder, transformer = model.vision_encoder, model.mask_decoder.transformer
    for name in config.adapter:
        module = plugins.load("adapters", name.removeprefix(OWN))
        options = build(module.Options, config.options.get(name, {}), f"model.{name}")
        if issubclass(module.Adapter, AttentionAdapter):
            for attention in adaptable_attentions(transformer):
                adapter = module.Adapter(attention.width, attention.inner, options)
                attention.adapters[name.replace(DECODER, "")] = adapter
            continue
        where = getattr(options, "blocks", "all")  # options need not be a `BlockOptions`
        for index, block in enumerate(encoder.blocks):
            place = Place(index, len(encoder.blocks), bool(block.window))
            if chosen(where, place, f"model.{name}.blocks"):
                block.adapters[name] = module.Adapter(block.width, options)
