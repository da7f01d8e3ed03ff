"""The prompt-free model against transformers' SamModel and Meta's segment-anything on the same random weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import SamModel

from models.conftest import Oracle, ask_segment_anything, randomise, relative
from sammit.config import ModelConfig
from sammit.geometry import resize
from sammit.models.build import build_model, size_named, transformers_config
from sammit.models.sam import PIXEL_MEAN, PIXEL_STD, PromptFreeSam

Make = Callable[..., PromptFreeSam]
STOCK = {"output_stride": 2}
FEDFMS = {"output_stride": 2, "head": "mix", "normalise": False, "no_mask": False}


@pytest.mark.parametrize("size", [128, 192])
def test_equals_transformers_without_prompts(size: int, tmp_path: Path) -> None:
    """One path of weights too: saved as transformers names them, read by load_into."""
    config = transformers_config(size_named("sam-tiny"), size, 1)
    config._attn_implementation = "eager"
    torch.manual_seed(0)
    reference = SamModel(config).eval()
    randomise(reference)
    state = {k: v for k, v in reference.state_dict().items() if "shared_embedding" not in k}
    save_file(state, tmp_path / "sam.safetensors")
    ours = build_model(ModelConfig(weights=str(tmp_path / "sam.safetensors"), output_stride=2), size, 1, 7)
    images = torch.rand(2, 3, size, size)
    mean, std = torch.tensor(PIXEL_MEAN).view(3, 1, 1), torch.tensor(PIXEL_STD).view(3, 1, 1)
    with torch.no_grad():
        expected = reference(pixel_values=(images * 255 - mean) / std, multimask_output=False).pred_masks[:, 0]
        found = ours(images)
    assert found.shape == (2, 1, size // 2, size // 2)
    assert relative(found, expected) <= 1e-4
    assert torch.allclose(found, expected, atol=1e-4 * float(expected.abs().max()))


def agree(model: PromptFreeSam, oracle: Oracle, name: str) -> float:
    """Relative difference of our logits to an answer of segment-anything."""
    with torch.no_grad():
        found = model(oracle.answers["image"])
    expected = oracle.answers[name]
    if name == "fedfms" and model.mixer:
        expected = model.mixer(expected)
    return relative(found, expected[:, : found.shape[1]])


@pytest.mark.parametrize("structures", [1, 2, 3])
def test_equals_segment_anything_on_fedfms_path(oracle: Oracle, structures: int) -> None:
    """C = 1: mask token 0 straight out; C > 1: a 1x1 convolution over the four tokens' maps."""
    config = ModelConfig(weights=str(oracle.weights), **FEDFMS)  # type: ignore[arg-type]
    model = build_model(config, 128, structures, 0)
    assert (model.mixer is None) == (structures == 1)
    assert agree(model, oracle, "fedfms") <= 1e-4


def test_equals_segment_anything_on_the_stock_path(oracle: Oracle) -> None:
    model = build_model(ModelConfig(weights=str(oracle.weights), output_stride=2), 128, 1, 0)
    assert agree(model, oracle, "stock") <= 1e-4
    with torch.no_grad():
        pixels = (oracle.answers["image"] - model.pixel_mean) / model.pixel_std  # type: ignore[operator]
        assert relative(model.vision_encoder(pixels), oracle.answers["embedding"]) <= 1e-5


@pytest.mark.parametrize("switch", ["normalise", "no_mask"])
def test_each_switch_matters(oracle: Oracle, switch: str) -> None:
    """Either half of FedFMS's departure alone is not stock SAM: the agreement above is no accident."""
    config = ModelConfig(weights=str(oracle.weights), output_stride=2, **{switch: False})  # type: ignore[arg-type]
    assert agree(build_model(config, 128, 1, 0), oracle, "stock") > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("size", [256, 1024])
def test_vit_b_equals_segment_anything(tmp_path: Path, size: int) -> None:
    """The real architecture, random weights, from an official-layout .pth of its own size."""
    oracle = ask_segment_anything(tmp_path, size, "vit_b")
    for config, name in (({"output_stride": 4}, "stock"), ({**FEDFMS, "output_stride": 4}, "fedfms")):
        settings = ModelConfig(name="sam-vit-b", weights=str(oracle.weights), **config)  # type: ignore[arg-type]
        assert agree(build_model(settings, size, 1, 0), oracle, name) <= 1e-4


@pytest.mark.parametrize("head", ["tokens", "mix"])
def test_the_detail_branch_starts_as_sam_resized(tiny: Make, head: str) -> None:
    """Same seed, with and without the branch: the finer map is the coarser one, interpolated."""
    coarse = tiny(structures=2, output_stride=2, head=head)
    fine = tiny(structures=2, output_stride=1, head=head)
    fine.load_state_dict(coarse.state_dict(), strict=False)
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        found, expected = fine(images), resize(coarse(images), (64, 64))
    assert found.shape == (2, 2, 64, 64)
    assert relative(found, expected) <= 1e-5


@pytest.mark.parametrize("side", [8, 24, 40, 128])
@pytest.mark.parametrize("stride", [1, 2])
def test_any_multiple_of_the_patch(tiny: Make, side: int, stride: int) -> None:
    """As built, and on an image of other sides than the model was built for."""
    model = tiny(size=side, structures=2, output_stride=stride)
    with torch.no_grad():
        assert model(torch.rand(1, 3, side, side)).shape == (1, 2, side // stride, side // stride)
        assert model(torch.rand(1, 3, side + 8, 16)).shape == (1, 2, (side + 8) // stride, 16 // stride)


def test_other_sides_are_refused(tiny: Make) -> None:
    with pytest.raises(ValueError, match="multiples of the patch, 8"):
        tiny()(torch.rand(1, 3, 60, 64))


def test_cases_of_a_batch_do_not_meet(tiny: Make) -> None:
    model = tiny(structures=2)
    randomise(model)
    images = torch.rand(3, 3, 64, 64)
    with torch.no_grad():
        together = model(images)
        alone = torch.cat([model(image.unsqueeze(0)) for image in images])
    assert relative(together, alone) <= 1e-5


def test_names_are_transformers_names(tiny: Make) -> None:
    """Only three prefixes are ours; a rename of any other tensor would break saved runs."""
    config = transformers_config(size_named("sam-tiny"), 64, 1)
    theirs = set(SamModel(config).state_dict())
    own = {name for name in tiny(output_stride=1).state_dict() if name not in theirs}
    detail = {f"detail.{layer}.{kind}" for layer in ("join", "refine", "out") for kind in ("weight", "bias")}
    assert own == {"no_mask_embed.weight", "positions.positional_embedding"} | detail
