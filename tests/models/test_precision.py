"""bf16: the same model bit for bit whether frozen weights are kept rounded or rounded as they are used."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from models.conftest import randomise, relative
from sammit.config import ModelConfig
from sammit.models.build import build_model, set_trainable
from sammit.models.precision import compute_in
from sammit.models.sam import PromptFreeSam

Make = Callable[..., PromptFreeSam]
ADAPTERS = ("lora", "bottleneck", "mixture")


def images() -> Tensor:
    """On a grid that windows do not fit."""
    return torch.rand(2, 3, 80, 48, generator=torch.Generator().manual_seed(0))


def trained(tiny: Make, precision: str) -> tuple[PromptFreeSam, list[str]]:
    """A model with weights that are not zero, its encoder frozen, computing in `precision`."""
    model = tiny(adapter=ADAPTERS)
    randomise(model)
    live = set_trainable(model, "adapters")
    compute_in(model, precision, live)
    return model, live


def gradients(model: nn.Module, logits: Tensor) -> dict[str, Tensor]:
    """Of the sum of squares, by name."""
    logits.float().square().sum().backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def test_kept_rounded_is_rounded_in_use(tiny: Make) -> None:
    """Logits and every gradient, bit for bit, against autocast around a model whose weights are all fp32."""
    (half, live), (full, _) = trained(tiny, "bf16"), trained(tiny, "fp32")
    full.in_bf16 = True  # only the products
    assert {p.dtype for p in full.parameters()} == {torch.float32}
    ours, theirs = half(images()), full(images())
    assert ours.dtype == torch.float32
    assert torch.equal(ours, theirs)
    assert torch.equal(half.prefix(images()), full.prefix(images()))
    found, expected = gradients(half, ours), gradients(full, theirs)
    assert set(found) == set(expected) == set(live)
    assert all(torch.equal(found[name], expected[name]) for name in live)


def test_what_trains_stays_in_fp32(tiny: Make) -> None:
    """So do norms and positions; every matrix of the frozen encoder does not."""
    model, live = trained(tiny, "bf16")
    kept = {name: p.dtype for name, p in model.named_parameters()}
    assert {kept[name] for name in live} == {torch.float32}
    rounded = {name for name, dtype in kept.items() if dtype == torch.bfloat16}
    for name in kept:
        frozen = name.startswith("vision_encoder.") and name not in live
        product = frozen and not any(part in name for part in ("layer_norm", "rel_pos", "pos_embed"))
        assert (name in rounded) == product, name
    counts = {name: p.numel() for name, p in model.named_parameters() if name not in live}
    assert sum(counts[name] for name in rounded) > 0.9 * sum(counts.values())


def test_half_is_near_and_full_is_untouched(tiny: Make) -> None:
    (half, _), (full, _) = trained(tiny, "bf16"), trained(tiny, "fp32")
    before = full(images())
    compute_in(full, "fp32")
    assert torch.equal(full(images()), before)
    assert 0 < relative(half(images()), before) < 0.05


@pytest.mark.parametrize("name", ["sam-tiny", "unet"])
def test_every_network_computes_alike_in_and_out_of_training(name: str) -> None:
    """A training step's autocast adds nothing, and logits are fp32."""
    model = build_model(ModelConfig(name, "random"), 64, 2, 0)
    compute_in(model, "bf16", [name for name, _ in model.named_parameters()])
    picture = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    outside = model(picture)
    with torch.autocast("cpu", torch.bfloat16):
        inside = model(picture)
    assert outside.dtype == torch.float32
    assert torch.equal(inside, outside)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
