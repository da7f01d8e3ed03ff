"""Body and head by name, on the names of the real networks."""

from __future__ import annotations

import pytest
import torch

from sammit.config import ModelConfig
from sammit.errors import UserError
from sammit.methods.heads import in_body, in_head, need_both
from sammit.models.build import build_model


def names_of(name: str, size: int = 128, **config: object) -> list[str]:
    """Every tensor of a network, without its numbers."""
    with torch.device("meta"):
        model = build_model(ModelConfig(name=name, weights="random", **config), size, 2, 0)  # type: ignore[arg-type]
    return [name for name, _ in model.named_parameters()]


def test_the_output_makes_maps_of_an_embedding() -> None:
    """Hypernetworks, detail and mixer; the decoder's transformer and its upscaling are not of it."""
    names = names_of("sam-tiny", adapter=("lora",), head="mix")
    output = {".".join(n.split(".")[:2]) for n in names if in_head(n, "output")}
    detail = {"detail.join", "detail.refine", "detail.out"}
    assert output == {"mask_decoder.output_hypernetworks_mlps", *detail, "mixer.weight", "mixer.bias"}
    assert not any(in_head(n, "output") for n in names if "transformer" in n or "upscale" in n)


def test_body_and_decoder_part_all_names() -> None:
    names = names_of("sam-tiny", adapter=("lora", "mixture"))
    assert all(in_body(n) != in_head(n, "decoder") for n in names)
    assert all(in_body(n) for n in names if "adapters" in n and n.startswith("vision_encoder"))
    assert in_head("mask_decoder.mask_tokens.weight", "decoder")


def test_an_encoders_detail_is_no_output() -> None:
    assert not in_head("vision_encoder.detail.weight", "output")


def test_a_part_that_is_empty_is_refused() -> None:
    need_both(["a"], ["b"])
    with pytest.raises(UserError, match="shares nothing, which is local_only"):
        need_both([], ["b"])
    with pytest.raises(UserError, match="keeps nothing at a site, which is fedavg"):
        need_both(["a"], [])
