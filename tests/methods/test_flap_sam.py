"""FLAP-SAM: which tensors are trained and sent, and that all others stay as they were."""

from __future__ import annotations

import pytest

from methods.conftest import Bench, bench, equal
from sammit.methods.state import take

UPSCALING = ("upscale_conv1.", "upscale_conv2.", "upscale_layer_norm.")


def flap_sam(decoder: str = "output", *more: str) -> Bench:
    return bench("flap_sam", {"decoder": decoder}, adapter=("lora", *more))


def decoder_of(names: tuple[str, ...]) -> set[str]:
    """Trained tensors of Segment Anything's own decoder, their common start taken off."""
    return {name.removeprefix("mask_decoder.") for name in names if name.startswith("mask_decoder.")}


def test_low_rank_factors_and_output_layers_travel() -> None:
    """In the encoder factors alone; in the decoder upscaling and hypernetworks; what Sammit adds is always trained."""
    b = flap_sam()
    assert b.personal == ()
    encoder = [name for name in b.shared if name.startswith("vision_encoder.")]
    assert encoder and all(".adapters.lora." in name for name in encoder)
    decoder = decoder_of(b.shared)
    assert {name for name in decoder if name.startswith(UPSCALING)}
    assert {name for name in decoder if name.startswith("output_hypernetworks_mlps.")}
    assert all(name.startswith((*UPSCALING, "output_hypernetworks_mlps.")) for name in decoder)
    assert any(name.startswith("detail.") for name in b.shared)


def test_the_rest_of_the_decoder_keeps_its_values() -> None:
    b = flap_sam()
    fixed = [name for name, _ in b.model.named_parameters() if name not in b.shared]
    assert any("mask_decoder.transformer" in name for name in fixed)
    assert {"mask_decoder.iou_token.weight", "mask_decoder.mask_tokens.weight"} <= set(fixed)
    before = take(b.model, fixed)
    work = b.work()
    b.method.train(work)
    assert equal(take(b.model, fixed), before)
    assert not equal(b.method.split(work)[0], b.start)


def test_the_papers_other_rows() -> None:
    """Factors alone, and factors with the whole decoder, which is SAMed's choice."""
    output, full, frozen = (decoder_of(flap_sam(choice).shared) for choice in ("output", "full", "frozen"))
    assert frozen == set() and output < full
    assert {"mask_tokens.weight", "iou_token.weight"} <= full - output
    assert any(name.startswith("transformer.") for name in full - output)


@pytest.mark.parametrize("decoder", ["output", "frozen"])
def test_factors_in_the_decoders_attention_are_trained_where_there_are_any(decoder: str) -> None:
    plain, more = (decoder_of(flap_sam(decoder, *adapters).shared) for adapters in ((), ("decoder_lora",)))
    assert more > plain and all(".adapters.lora." in name for name in more - plain)


def test_a_whole_encoder_that_is_live_is_left_alone() -> None:
    """With `model.train = "all"` the name decides."""
    method = flap_sam().method
    assert not method.trains("vision_encoder.layers.0.attn.qkv.weight")
    assert method.trains("vision_encoder.layers.0.adapters.lora.q_down.weight")
    assert method.trains("mixer.weight")
