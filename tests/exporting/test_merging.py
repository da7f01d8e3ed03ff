"""Merged factors give the logits that the factors gave, and what cannot be merged stays."""

from __future__ import annotations

import pytest
import torch

from sammit.config import ModelConfig
from sammit.exporting.merging import merge
from sammit.models.adapters.base import Adapter
from sammit.models.build import build_model


def made(*adapters: str) -> torch.nn.Module:
    """A network whose adapters do something."""
    options = {name: {"alpha": 6.0, "residual": True} for name in adapters if name.endswith("lora")}
    model = build_model(ModelConfig(weights="random", adapter=adapters, options=options), 64, 2, 1).eval()
    generator = torch.Generator().manual_seed(3)
    for name, parameter in model.named_parameters():
        if ".adapters." in name:
            parameter.data = 0.2 * torch.randn(parameter.shape, generator=generator)
    return model


@pytest.mark.parametrize(
    ("adapters", "left"),
    [(("lora",), set()), (("lora", "decoder_lora"), set()), (("lora", "mixture"), {"mixture"})],
)
def test_the_logits_stay(adapters: tuple[str, ...], left: set[str]) -> None:
    """Factors of encoder and decoder, beside experts, weighted, with the matrix that a server fills."""
    model, images = made(*adapters), torch.rand(2, 3, 64, 64)
    for module in model.modules():
        if isinstance(module, Adapter):
            module.weight = 0.7
    plain = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with torch.no_grad():
        before = model(images)
        notes = merge(model)
        after = model(images)
    assert (before - after).abs().max() < 1e-5 * before.abs().max()
    assert {
        name.split(".adapters.")[1].partition(".")[0] for name in model.state_dict() if ".adapters." in name
    } == left
    assert not torch.equal(
        model.state_dict()["vision_encoder.layers.0.attn.qkv.weight"], plain["vision_encoder.layers.0.attn.qkv.weight"]
    )
    assert "lora" in notes[0] and "merged" in notes[0]


def test_what_is_switched_off_is_left_out() -> None:
    model, images = made("lora", "mixture"), torch.rand(1, 3, 64, 64)
    for module in model.modules():
        if isinstance(module, Adapter):
            module.active = hasattr(module, "q_down")
    with torch.no_grad():
        before = model(images)
        notes = merge(model)
        assert (before - model(images)).abs().max() < 1e-5 * before.abs().max()
    assert any("mixture: switched off" in note for note in notes)
    assert not any(".adapters." in name for name in model.state_dict())
