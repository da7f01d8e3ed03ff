"""Names and batches."""

from __future__ import annotations

import pytest
import torch

from sammit.vocabulary import Batch, is_adapter


@pytest.mark.parametrize(
    ("name", "adapter"),
    [
        ("vision_encoder.layers.0.adapters.lora.q_up.weight", True),
        ("adapters.weight", True),
        ("vision_encoder.layers.0.adapters_old.weight", False),
        ("vision_encoder.my.adaptersx.weight", False),
        ("mask_decoder.iou_token.weight", False),
        ("", False),
    ],
)
def test_an_adapter_is_a_whole_component(name: str, adapter: bool) -> None:
    assert is_adapter(name) == adapter


def test_a_batch_moves_whole() -> None:
    parts = torch.rand(1, 3, 2, 2), torch.ones(1, 1, 2, 2), torch.zeros(1, 1, 2, 2)
    assert Batch(*parts).to("meta").prefix is None
    batch = Batch(*parts, prefix=torch.rand(1, 1, 1, 4)).to("meta")
    assert {part.device.type for part in vars(batch).values()} == {"meta"}
