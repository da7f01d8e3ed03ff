"""FedU-Net's network: MONAI's own, from one start, without statistics that would not be averaged."""

from __future__ import annotations

import pytest
import torch

from sammit.config import ModelConfig
from sammit.errors import UserError
from sammit.models.build import build_model, set_trainable


def unet(seed: int = 0, structures: int = 2, **config: object) -> torch.nn.Module:
    return build_model(ModelConfig(name="unet", **{"weights": "random", **config}), 64, structures, seed)  # type: ignore[arg-type]


def test_equal_seeds_give_one_start() -> None:
    """A federation of U-Nets from different starts would average unrelated networks."""
    first, second, other = unet().state_dict(), unet().state_dict(), unet(seed=1).state_dict()
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())
    assert any(not torch.equal(tensor, other[name]) for name, tensor in first.items())


def test_it_is_monais_network() -> None:
    """The same answers as MONAI's class with the numbers written out, and nothing but parameters."""
    from monai.networks.nets import UNet

    ours = unet()
    theirs = UNet(2, 3, 2, (16, 32, 64, 128, 256), (2, 2, 2, 2), num_res_units=2, act="RELU", norm="INSTANCE")
    theirs.load_state_dict({name.removeprefix("network."): tensor for name, tensor in ours.state_dict().items()})
    images = torch.rand(2, 3, 64, 48)
    assert torch.equal(ours(images), theirs(images))
    assert ours(images).shape == (2, 2, 64, 48)
    assert not list(ours.named_buffers())


def test_everything_is_live() -> None:
    network = unet()
    live = set_trainable(network, "all")
    assert live == [name for name, _ in network.named_parameters()]
    network(torch.rand(1, 3, 32, 32)).square().mean().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize(
    ("config", "size", "said"),
    [
        ({"weights": "pretrained"}, 64, "model.weights"),
        ({"adapter": ("lora",)}, 64, "model.adapter"),
        ({}, 72, "data.size"),
    ],
)
def test_what_it_cannot_be_is_refused(config: dict[str, object], size: int, said: str) -> None:
    settings = ModelConfig(name="unet", **{"weights": "random", **config})  # type: ignore[arg-type]
    with pytest.raises(UserError, match=said):
        build_model(settings, size, 1, 0)


def test_sides_that_do_not_halve_are_refused() -> None:
    with pytest.raises(ValueError, match="multiples of 16"):
        unet()(torch.rand(1, 3, 40, 64))
