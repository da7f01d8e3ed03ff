"""Which blocks: of adapters, of what trains; and the entry behind those that come first."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from models.conftest import randomise, relative
from sammit.errors import UserError
from sammit.models.blocks import Place, chosen
from sammit.models.build import set_trainable
from sammit.models.sam import PromptFreeSam

Make = Callable[..., PromptFreeSam]


@pytest.mark.parametrize(
    ("blocks", "indices"),
    [
        ("last_half", [3, 4]),
        ("every_other", [1, 3]),
        ("global", [2]),
        ("all", [0, 1, 2, 3, 4]),
        ("last:1", [4]),
        ("last:4", [1, 2, 3, 4]),
        ("last:5", [0, 1, 2, 3, 4]),
    ],
)
def test_the_choice_in_an_odd_number_of_blocks(blocks: str, indices: list[int]) -> None:
    places = [Place(index, 5, windowed=index != 2) for index in range(5)]
    assert [place.index for place in places if chosen(blocks, place, "here")] == indices


@pytest.mark.parametrize("blocks", ["last:0", "last:6", "last:", "last:-1", "last:two", "last: 2"])
def test_a_number_of_blocks_that_cannot_be(blocks: str) -> None:
    with pytest.raises(UserError, match=r"^here: '.*' must be 'last:K', K from 1 to 5"):
        chosen(blocks, Place(0, 5, True), "here")


@pytest.mark.parametrize("adapter", ["lora", "bottleneck", "mixture", "condition", "own_lora"])
def test_every_adapter_of_blocks_takes_the_choice(tiny: Make, adapter: str) -> None:
    model = tiny(adapter=(adapter,), options={adapter: {"blocks": "last:1"}})
    found = {int(name.split(".")[2]) for name, _ in model.named_parameters() if ".adapters." in name}
    assert found == {3}


def test_a_choice_that_is_none_names_its_setting(tiny: Make) -> None:
    with pytest.raises(UserError, match=r"^model\.lora\.blocks: 'late' is none of all, .*last:K"):
        tiny(adapter=("lora",), options={"lora": {"blocks": "late"}})


def test_only_what_follows_trains(tiny: Make) -> None:
    """The last two blocks, the neck and the decoder; adapters wherever they are."""
    model = tiny(adapter=("lora",))
    live = set_trainable(model, "last:2")
    inside = [name for name in live if name.startswith("vision_encoder.") and ".adapters." not in name]
    assert {name.split(".")[1] for name in inside} == {"layers", "neck"}
    assert {name.split(".")[2] for name in inside if ".layers." in name} == {"2", "3"}
    everything = set_trainable(tiny(adapter=("lora",)), "all")
    early = (
        "vision_encoder.patch_embed",
        "vision_encoder.pos_embed",
        "vision_encoder.layers.0.",
        "vision_encoder.layers.1.",
    )
    assert live == [name for name in everything if not name.startswith(early) or ".adapters." in name]


@pytest.mark.parametrize("train", ["last:0", "last:5", "last:x"])
def test_a_model_has_so_many_blocks(tiny: Make, train: str) -> None:
    with pytest.raises(UserError, match=r"^model\.train: .* K from 1 to 4"):
        set_trainable(tiny(), train)


def test_a_model_without_blocks_has_no_last_ones() -> None:
    with pytest.raises(UserError, match=r"^model\.train: 'last:2' counts"):
        set_trainable(torch.nn.Linear(2, 2), "last:2")


@pytest.mark.parametrize("cut", [0, 1, 3, 4])
def test_prefix_and_rest_are_the_whole(tiny: Make, cut: int) -> None:
    """The same numbers to the last bit, on a grid that is not square, with gradients of all that follows the cut."""
    model = tiny(structures=2, adapter=("lora", "mixture"))
    randomise(model)
    images = torch.rand(2, 3, 64, 48, generator=torch.Generator().manual_seed(3))
    whole = model(images)
    model.vision_encoder.cut = cut
    assert torch.equal(model(images), whole)
    prefix = model.prefix(images).detach()
    assert prefix.shape == (2, 8, 6, 96)
    assert torch.equal(model(images, prefix), whole)
    early = tuple(f"vision_encoder.layers.{i}." for i in range(cut))
    names = [n for n in set_trainable(model, "all") if not n.startswith((*early, "vision_encoder.p"))]
    parameters = [dict(model.named_parameters())[name] for name in names]
    wanted = torch.autograd.grad((model(images) ** 2).sum(), parameters)
    found = torch.autograd.grad((model(images, prefix) ** 2).sum(), parameters)
    assert all(torch.equal(one, two) for one, two in zip(found, wanted, strict=True))
    rounded = model(images, prefix.half())
    assert 0 < relative(rounded, whole) < 2e-3


def test_nothing_before_the_cut_is_run_again(tiny: Make) -> None:
    """With a prefix the image reaches the decoder's refinement, and nothing else."""
    model = tiny()
    model.vision_encoder.cut = 2
    images = torch.rand(1, 3, 64, 64)
    prefix = model.prefix(images)
    ran: list[str] = []
    for name, module in model.named_modules():
        module.register_forward_hook(lambda _, __, ___, name=name: ran.append(name))
    model(images, prefix)
    assert "vision_encoder.layers.2" in ran and "detail" in ran and "vision_encoder" in ran
    assert not [
        name
        for name in ran
        if name.startswith(("vision_encoder.layers.0", "vision_encoder.layers.1", "vision_encoder.patch"))
    ]
