"""What trains, what does not, and how many numbers that is: ours beside FedFMS's."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from models.conftest import randomise
from sammit.config import ModelConfig
from sammit.models.build import build_model, set_trainable
from sammit.models.sam import PromptFreeSam

Make = Callable[..., PromptFreeSam]

HYPERNETWORK = 2 * (256 * 256 + 256) + 256 * 32 + 32  # 139,808
IOU_HEAD = 2 * (256 * 256 + 256) + 256 * 4 + 4
PROMPT_ENCODER = 6_220
DEPTH_ADAPTERS = 3_550_464  # FedMSA's third adapter of each block, never run
SEG1 = 5  # its 1x1 convolution, bypassed when there is one structure


def live_count(structures: int, train: str, **config: object) -> int:
    """Elements that train in ViT-B at 1024 px, FedFMS's path; built without memory."""
    settings = ModelConfig(
        name="sam-vit-b", weights="random", output_stride=4, head="mix", normalise=False, no_mask=False, **config
    )  # type: ignore[arg-type]
    with torch.device("meta"):
        model = build_model(settings, 1024, structures, 0)
    live = set(set_trainable(model, train))
    return sum(parameter.numel() for name, parameter in model.named_parameters() if name in live)


@pytest.mark.parametrize(
    ("train", "config", "gets_gradient", "sent", "never_run"),
    [
        ("adapters", {"adapter": ("bottleneck",)}, 11_026_656, 14_715_957, DEPTH_ADAPTERS),
        ("all", {}, 93_596_640, 93_735_477, 0),
    ],
    ids=["FedMSA", "FedSAM"],
)
def test_counts_beside_fedfms(
    train: str, config: dict[str, object], gets_gradient: int, sent: int, never_run: int
) -> None:
    """FedFMS sends 14,715,957 (FedMSA) and 93,735,477 (FedSAM); 11,026,656 and 93,596,640 of them get a `.grad`.

    The difference is dead: the third adapters (FedMSA), the prompt encoder, the IoU head, and, with one structure, the
    bypassed 1x1 convolution. With one structure three hypernetworks more have a `.grad` that is exactly zero, because
    their maps are cut off after the product; they are dead too, and Sammit does not build them: 419,424 fewer.
    With two structures all four tokens feed the convolution and the counts meet, but for its 10 numbers.
    """
    assert sent - gets_gradient == never_run + PROMPT_ENCODER + IOU_HEAD + SEG1
    assert live_count(1, train, **config) == gets_gradient - 3 * HYPERNETWORK
    assert live_count(2, train, **config) == gets_gradient + 2 * 4 + 2


@pytest.mark.parametrize(
    ("name", "options", "count"),
    [
        ("lora", {"rank": 4}, 147_456),
        ("lora", {"rank": 8}, 294_912),
        ("mixture", {"experts": 4, "width": 8}, 626_736),  # 52,228 a block, of which the router 3,076
        ("mixture", {"experts": 4, "width": 4}, 331_824),
        ("bottleneck", {}, 7_100_928),
    ],
)
def test_adapters_of_vit_b(name: str, options: dict[str, object], count: int) -> None:
    """Twelve blocks of width 768."""
    decoder = live_count(1, "decoder")
    assert live_count(1, "adapters", adapter=(name,), options={name: options}) - decoder == count


@pytest.mark.parametrize("adapters", [(), ("lora",), ("bottleneck",), ("mixture",)])
@pytest.mark.parametrize("head", ["tokens", "mix"])
@pytest.mark.parametrize("structures", [1, 2, 5])
@pytest.mark.parametrize("stride", [1, 2])
def test_every_live_name_gets_a_gradient(
    tiny: Make, adapters: tuple[str, ...], head: str, structures: int, stride: int
) -> None:
    """And no other does. Away from zero initialisation, which hides a factor behind its partner's zero.

    The keys' biases are the exception that softmax makes: adding one number to all scores changes nothing, so their
    gradient is rounding; they are SAM's own names and stay.
    """
    model = tiny(size=32, structures=structures, adapter=adapters, head=head, output_stride=stride)
    randomise(model, 0.1)
    live = set_trainable(model, "all")
    (model(torch.rand(2, 3, 32, 32)) ** 2).sum().backward()
    with_gradient = {name for name, p in model.named_parameters() if p.grad is not None and bool(p.grad.any())}
    keys = {name for name in live if name.endswith(".k_proj.bias")}
    assert set(live) - keys == with_gradient - keys
    assert {name for name, p in model.named_parameters() if p.grad is not None} == set(live)


@pytest.mark.parametrize("train", ["all", "adapters", "decoder"])
def test_what_is_frozen(tiny: Make, train: str) -> None:
    """Whole dotted names decide; the random constants of the prompt side never train."""
    model = tiny(structures=2, adapter=("lora", "mixture"), head="mix")
    live = set_trainable(model, train)
    first = {name.partition(".")[0] for name in live}
    assert first >= {"mask_decoder", "mixer", "detail"}
    assert not first & {"positions", "no_mask_embed"}
    inside = [name for name in live if name.startswith("vision_encoder.")]
    adapters = [name for name in inside if ".adapters." in name]
    everything = [name for name, _ in model.named_parameters() if ".adapters." in name]
    assert adapters == ([] if train == "decoder" else everything)
    assert (len(inside) > len(adapters)) == (train == "all")
    assert live == [name for name, parameter in model.named_parameters() if parameter.requires_grad]
