"""From a recipe's table to a network: the same twice, and a line for each mistake."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest
import torch

from sammit.config import ModelConfig
from sammit.errors import UserError
from sammit.models.build import SIZES, build_model
from sammit.models.sam import PromptFreeSam

Make = Callable[..., PromptFreeSam]


@pytest.mark.parametrize("head", ["tokens", "mix"])
def test_equal_arguments_give_equal_tensors(tiny: Make, head: str) -> None:
    """Whatever was drawn in between, and without disturbing the caller's own draws."""
    config = {"adapter": ("lora", "bottleneck", "mixture"), "structures": 2, "head": head}
    first = tiny(**config).state_dict()
    torch.manual_seed(5)
    before = torch.rand(3)
    torch.manual_seed(5)
    second = tiny(**config).state_dict()
    assert torch.equal(torch.rand(3), before)
    assert first.keys() == second.keys()
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())
    assert any(not torch.equal(tensor, first[name]) for name, tensor in tiny(seed=1, **config).state_dict().items())


def test_an_adapter_does_not_move_the_base(tiny: Make) -> None:
    """Methods with and without adapters start from one base."""
    plain, adapted = tiny().state_dict(), tiny(adapter=("lora",)).state_dict()
    assert all(torch.equal(tensor, adapted[name]) for name, tensor in plain.items())


@pytest.mark.parametrize("name", sorted(SIZES))
def test_every_size_builds(name: str) -> None:
    """Without memory: shapes only."""
    with torch.device("meta"):
        model = build_model(ModelConfig(name=name, weights="random"), 64, 1, 0)
    assert len(model.vision_encoder.blocks) == SIZES[name].depth
    assert model.stride == SIZES[name].stride
    assert [i for i, b in enumerate(model.vision_encoder.blocks) if not b.window] == list(SIZES[name].global_blocks)


@pytest.mark.parametrize(
    ("config", "size", "says"),
    [
        ({"name": "sam-tini"}, 64, "did you mean 'sam-tiny'"),
        ({}, 60, "60 is not a multiple of 8"),
        ({"output_stride": 4}, 64, "at most 2"),
        ({"adapter": ("lorra",)}, 64, "unknown adapter 'lorra'"),
        ({"options": {"lora": {"rank": 4}}}, 64, r"\[model.lora\]"),
    ],
)
def test_mistakes_are_lines(tiny: Make, config: dict[str, object], size: int, says: str) -> None:
    with pytest.raises(UserError, match=says) as caught:
        tiny(size=size, **config)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("module", ["build", "weights", "sizes", "official"])
def test_imports_no_torch(module: str) -> None:
    """The command line reads names, sizes and weights' addresses before it needs a tensor."""
    code = f"import sys, sammit.models.{module}; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
