"""What the models' tests share: random weights without zeros, and segment-anything's answers."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from sammit.config import ModelConfig
from sammit.models.build import build_model
from sammit.models.sam import PromptFreeSam

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Oracle:
    """A checkpoint in the official layout and segment-anything's outputs for one image."""

    weights: Path
    answers: dict[str, Tensor]


def ask_segment_anything(folder: Path, size: int, arch: str) -> Oracle:
    """Run the oracle script; about 4 s for the tiny architecture."""
    from safetensors.torch import load_file

    spec = json.dumps({"size": size, "arch": arch})
    script = str(HERE / "oracle_segment_anything.py")
    done = subprocess.run([sys.executable, script, str(folder), spec], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return Oracle(folder / "weights.pth", load_file(folder / "answers.safetensors"))


@pytest.fixture(scope="session")
def oracle(tmp_path_factory: pytest.TempPathFactory) -> Oracle:
    """segment-anything at sam-tiny's sizes, 128 pixels."""
    return ask_segment_anything(tmp_path_factory.mktemp("oracle"), 128, "tiny")


def randomise(model: nn.Module, std: float = 0.05) -> None:
    """Noise on every parameter, so that no zero initialisation hides a term."""
    noise = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=noise) * std)


def relative(found: Tensor, expected: Tensor) -> float:
    """Norm of the difference over the norm of what is expected."""
    expected = expected.detach().double()
    return float((found.detach().double() - expected).norm() / expected.norm().clamp_min(1e-30))


@pytest.fixture
def tiny() -> Callable[..., PromptFreeSam]:
    """A sam-tiny from random weights: keyword arguments are ModelConfig's, and `size`, `structures`, `seed`."""

    def make(size: int = 64, structures: int = 1, seed: int = 0, **config: object) -> PromptFreeSam:
        return build_model(ModelConfig(**{"weights": "random", **config}), size, structures, seed)  # type: ignore[arg-type]

    return make
