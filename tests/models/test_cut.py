"""Where the encoder is cut, and what the prefix's hash covers."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sammit.errors import UserError
from sammit.models.build import set_trainable
from sammit.models.cut import cut_before, prefix_hash
from sammit.models.sam import PromptFreeSam

Make = Callable[..., PromptFreeSam]


@pytest.mark.parametrize("blocks", [1, 2, 3])
def test_the_cut_lies_before_the_first_that_may_change(tiny: Make, blocks: int) -> None:
    assert cut_before(tiny(), set_trainable(tiny(), f"last:{blocks}")) == 4 - blocks
    model = tiny(adapter=("lora",), options={"lora": {"blocks": f"last:{blocks}"}})
    assert cut_before(model, set_trainable(model, "adapters")) == 4 - blocks


def test_a_decoder_alone_leaves_every_block(tiny: Make) -> None:
    assert cut_before(tiny(), set_trainable(tiny(), "decoder")) == 4


def test_frozen_adapters_are_no_part_of_it(tiny: Make) -> None:
    """A method may switch them on and off."""
    model = tiny(adapter=("mixture",), options={"mixture": {"blocks": "last:2"}})
    assert cut_before(model, set_trainable(model, "decoder")) == 2


def test_what_a_server_fills_may_change(tiny: Make) -> None:
    """A name that is not trained but sent."""
    changing = [*set_trainable(tiny(), "decoder"), "vision_encoder.layers.1.attn.qkv.weight"]
    assert cut_before(tiny(), changing) == 1


@pytest.mark.parametrize(
    ("train", "adapter", "message"),
    [
        ("all", (), r"'vision_encoder\.pos_embed' is in the way.* set model\.train = 'last:2'"),
        ("adapters", ("lora",), r"layers\.0\.adapters\.lora\.q_down\.weight' is .* set model\.lora\.blocks = 'last:2'"),
        ("decoder", ("own_lora",), r"layers\.0\.adapters\.own_lora\..* set model\.own_lora\.blocks = 'last:2'"),
        ("last:4", (), r"layers\.0\.\w+\..*' is in the way.* or training\.prefix_cache = 0$"),
    ],
)
def test_what_is_in_the_way_is_named(tiny: Make, train: str, adapter: tuple[str, ...], message: str) -> None:
    model = tiny(adapter=adapter)
    with pytest.raises(UserError, match=message):
        cut_before(model, set_trainable(model, train))


def test_the_hash_is_of_all_that_the_prefix_computes_with(tiny: Make) -> None:
    """Each tensor before the cut and the pixels' scaling change it; nothing behind the cut does."""
    model = tiny()
    first = _cut(model, 2)
    for name, tensor in model.state_dict().items():
        kept = tensor.clone()
        tensor.view(-1)[0] += 0.5
        early = name.startswith(("vision_encoder.p", "vision_encoder.layers.0.", "vision_encoder.layers.1."))
        assert (prefix_hash(model) != first) == early, name
        tensor.copy_(kept)
    assert prefix_hash(model) == first == _cut(tiny(), 2)
    assert len({first, _cut(tiny(normalise=False), 2), _cut(tiny(), 1), _cut(tiny().double(), 2)}) == 4


def _cut(model: PromptFreeSam, cut: int) -> str:
    model.vision_encoder.cut = cut
    return prefix_hash(model)
