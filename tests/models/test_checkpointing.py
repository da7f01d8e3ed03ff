"""Blocks that are run again in the backward pass: the same numbers, nothing counted twice, nothing held on to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import functional_call

from models.conftest import randomise
from sammit.config import ModelConfig
from sammit.errors import UserError
from sammit.models.build import build_model, set_checkpointing, set_trainable
from sammit.models.precision import compute_in
from sammit.models.sam import PromptFreeSam

Make = Callable[..., PromptFreeSam]
ADAPTERS = ("lora", "bottleneck", "condition", "mixture")


def made(tiny: Make, checkpointing: bool, precision: str = "fp32", train: str = "adapters") -> PromptFreeSam:
    """A model with every adapter of the encoder, none of them zero."""
    model = tiny(adapter=ADAPTERS, options={"mixture": {"top_k": 2}})
    randomise(model)
    compute_in(model, precision, set_trainable(model, train))
    if checkpointing:
        set_checkpointing(model)
    return model


def mixtures(model: PromptFreeSam) -> list[Any]:
    return [block.adapters["mixture"] for block in model.vision_encoder.blocks]


def step(model: PromptFreeSam) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss, the mixtures' balance in it, and every gradient."""
    logits = model(torch.rand(2, 3, 80, 48, generator=torch.Generator().manual_seed(0)))
    loss = logits.square().mean() + sum(mixture.balance for mixture in mixtures(model))
    loss.backward()
    return loss.detach(), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("train", ["adapters", "all"])
def test_the_same_numbers(tiny: Make, precision: str, train: str) -> None:
    """Bit for bit: the second pass is the first one again."""
    (loss, gradients), (again, others) = (step(made(tiny, on, precision, train)) for on in (False, True))
    assert torch.equal(loss, again)
    assert set(gradients) == set(others)
    assert all(torch.equal(gradients[name], others[name]) for name in gradients)


def test_the_second_pass_leaves_no_notes(tiny: Make) -> None:
    """Balance and pooled channels are those of the first pass; loads count once even where a gradient is wanted."""
    model = made(tiny, True)
    model.eval()
    logits = model(torch.rand(1, 3, 64, 64))
    before = [(mixture.passes, mixture.load, mixture.balance) for mixture in mixtures(model)]
    pooled = [block.adapters["condition"].pooled for block in model.vision_encoder.blocks]
    (logits.mean() + sum(mixture.balance for mixture in mixtures(model))).backward()
    for mixture, (passes, load, balance) in zip(mixtures(model), before, strict=True):
        assert passes == mixture.passes == 1
        assert mixture.load is load and mixture.balance is balance
    assert all(
        block.adapters["condition"].pooled is one
        for block, one in zip(model.vision_encoder.blocks, pooled, strict=True)
    )


def test_a_pass_is_run_again_as_it_was(tiny: Make) -> None:
    """Methods look at one model with and without an adapter in one loss; gradients are those of both passes."""

    def gradients(checkpointing: bool) -> list[Tensor]:
        model = made(tiny, checkpointing)
        picture = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
        without, loud = (model(picture) for _ in switched(model))
        (without * loud).mean().backward()
        assert all(mixture.active and mixture.weight == 2.0 for mixture in mixtures(model))
        return [p.grad for p in model.parameters() if p.grad is not None]

    def switched(model: PromptFreeSam) -> Iterator[None]:
        for active, weight in ((False, 1.0), (True, 2.0)):
            for mixture in mixtures(model):
                mixture.active, mixture.weight = active, weight
            yield

    first, second = gradients(False), gradients(True)
    assert len(first) == len(second)
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


def test_a_pass_with_other_tensors_is_run_again_with_them(tiny: Make) -> None:
    """As methods call a model that is a mixture of two, with gradients to what it is mixed by."""

    def gradient(checkpointing: bool) -> Tensor:
        model = made(tiny, checkpointing)
        share = torch.full((), 0.5, requires_grad=True)
        mixed = {name: tensor.detach() * share for name, tensor in model.named_parameters() if "adapters" in name}
        logits = functional_call(model, mixed, (torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)),))
        logits.square().mean().backward()
        assert share.grad is not None and share.grad != 0
        return share.grad

    assert torch.equal(gradient(True), gradient(False))


def test_less_is_kept_for_the_backward_pass(tiny: Make) -> None:
    """Bytes that autograd holds between the two passes."""

    def held(checkpointing: bool) -> int:
        model, seen = made(tiny, checkpointing), {}

        def keep(tensor: Tensor) -> Tensor:
            seen[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            model.vision_encoder(torch.rand(1, 3, 64, 64))
        weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
        return sum(size for place, size in seen.items() if place not in weights)

    assert held(True) < held(False) / 3


def test_scoring_is_not_slowed(tiny: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a gradient there is nothing to run again."""
    monkeypatch.setattr("sammit.models.encoder.checkpoint", None)
    with torch.inference_mode():
        made(tiny, True)(torch.rand(1, 3, 64, 64))


def test_a_model_without_blocks_is_refused() -> None:
    with pytest.raises(UserError, match=r"training\.checkpointing: .*set it to false"):
        set_checkpointing(build_model(ModelConfig("unet", "random"), 64, 1, 0))
