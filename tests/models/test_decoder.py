"""Low-rank factors in the decoder: nothing at first, a merged matrix afterwards, and names that are pairs to all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from models.conftest import randomise, relative
from sammit.config import ModelConfig
from sammit.errors import UserError
from sammit.models.build import build_model, set_trainable
from sammit.models.decoder import Attention, adaptable_attentions
from sammit.models.layouts import adapter_of
from sammit.models.sam import PromptFreeSam
from sammit.models.weights import base_hash

Make = Callable[..., PromptFreeSam]
ATTENTIONS = [
    *(
        f"layers.{i}.{name}"
        for i in range(2)
        for name in ("self_attn", "cross_attn_token_to_image", "cross_attn_image_to_token")
    ),
    "final_attn_token_to_image",
]
FACTORS = ("q_down", "q_up", "v_down", "v_up")


def adapted(tiny: Make, *more: str, **options: Any) -> PromptFreeSam:
    return tiny(adapter=("decoder_lora", *more), options={"decoder_lora": options})


def logits(model: PromptFreeSam) -> Tensor:
    """On one fixed batch."""
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        return model(images)  # type: ignore[no-any-return]


def attentions(model: PromptFreeSam) -> list[Attention]:
    return adaptable_attentions(model.mask_decoder.transformer)


def test_the_base_model_at_first(tiny: Make) -> None:
    """Bit for bit: our attention over the original's modules is the original, and the factors add nothing."""
    assert torch.equal(logits(adapted(tiny)), logits(tiny()))


def test_the_base_keeps_its_names_and_tensors(tiny: Make) -> None:
    plain, model = tiny(), adapted(tiny)
    base = {name: tensor for name, tensor in model.state_dict().items() if adapter_of(name) is None}
    assert list(base) == list(plain.state_dict())
    assert base_hash(model) == base_hash(plain)


def test_every_attention_has_two_pairs(tiny: Make) -> None:
    """Under the name of the encoder's own low-rank adapter: what merges pairs by name sees these too."""
    model = adapted(tiny, "lora")
    names = [name for name, _ in model.named_parameters() if adapter_of(name) and name.startswith("mask_decoder.")]
    inside = [f"mask_decoder.transformer.{a}.adapters.lora.{f}.weight" for a in ATTENTIONS for f in FACTORS]
    assert sorted(names) == sorted(inside)


def test_a_second_one_goes_by_the_name_of_what_stays(tiny: Make) -> None:
    model = tiny(adapter=("decoder_lora", "own_decoder_lora"))
    names = [name for name, _ in model.named_parameters() if adapter_of(name)]
    assert {adapter_of(name) for name in names} == {"lora", "own_lora"}
    assert len(names) == 2 * len(ATTENTIONS) * len(FACTORS)


def test_factors_are_their_merged_matrices(tiny: Make) -> None:
    """W_q + s B_q A_q and W_v + s B_v A_v in transformers' own attention give the same map."""
    model, merged = adapted(tiny, rank=3, alpha=6.0), tiny()
    plain = dict(merged.mask_decoder.transformer.named_modules())
    for name, attention in zip(ATTENTIONS, attentions(model), strict=True):
        lora: Any = attention.adapters["lora"]
        randomise(lora, 0.3)
        assert lora.scale == 2.0
        for to, down, up in (("q_proj", lora.q_down, lora.q_up), ("v_proj", lora.v_down, lora.v_up)):
            assert up.weight.shape == (attention.inner, 3) and down.weight.shape == (3, attention.width)
            plain[f"{name}.{to}"].weight.data += 2 * up.weight.data @ down.weight.data
    assert relative(logits(model), logits(merged)) <= 1e-5
    assert relative(logits(merged), logits(tiny())) > 1e-3


def test_inactive_means_absent(tiny: Make) -> None:
    model = adapted(tiny)
    for attention in attentions(model):
        randomise(attention.adapters["lora"], 0.5)
    assert relative(logits(model), logits(tiny())) > 1e-3
    for attention in attentions(model):
        attention.adapters["lora"].active = False  # type: ignore[assignment]
    assert torch.equal(logits(model), logits(tiny()))


def test_all_live_factors_get_a_gradient(tiny: Make) -> None:
    model = adapted(tiny)
    randomise(model, 0.1)
    live = set(set_trainable(model, "adapters"))
    (model(torch.rand(2, 3, 64, 64)) ** 2).sum().backward()
    factors = {name: p for name, p in model.named_parameters() if ".adapters." in name}
    assert factors.keys() <= live and all(bool(p.grad.any()) for p in factors.values() if p.grad is not None)
    assert all(p.grad is not None for p in factors.values())


def test_the_count_of_sams_own_decoder() -> None:
    """X = 256; I = 256 where tokens attend to themselves, 128 across: R (X + I) a pair, two pairs an attention."""
    config = ModelConfig(name="sam-vit-b", weights="random", adapter=("decoder_lora",))
    with torch.device("meta"):
        model = build_model(config, 1024, 1, 0)
    count = sum(p.numel() for name, p in model.named_parameters() if adapter_of(name))
    assert count == 2 * 4 * (2 * (256 + 256) + 5 * (256 + 128)) == 23_552


@pytest.mark.parametrize("options", [{"rank": 0}, {"rank": 33}, {"rnk": 4}])
def test_wrong_options_are_refused_by_name(tiny: Make, options: dict[str, Any]) -> None:
    """sam-tiny's attentions across are 32 wide."""
    with pytest.raises(UserError, match=r"model\.decoder_lora"):
        adapted(tiny, **options)
