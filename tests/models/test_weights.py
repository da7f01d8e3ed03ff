"""Loading: every layout, every image size, more structures than the file has, and what must be refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn.functional import interpolate

from models.conftest import Oracle, randomise
from sammit.config import ModelConfig
from sammit.errors import UserError
from sammit.models import official
from sammit.models.build import build_model
from sammit.models.sam import PromptFreeSam
from sammit.models.weights import base_hash, check, list_weights, load_into

Make = Callable[..., PromptFreeSam]
TOKENS = "mask_decoder.mask_tokens.weight"


def saved(model: PromptFreeSam, path: Path) -> str:
    """The model's state as a .safetensors; returns the path as a recipe writes it."""
    randomise(model)
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, path)
    return str(path)


def refusal(call: Callable[[], object]) -> str:
    """The text of the UserError, which must be one line."""
    with pytest.raises(UserError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_own_file_comes_back_bit_for_bit(tiny: Make, tmp_path: Path) -> None:
    """With adapters, as a run's model has them."""
    config = {"adapter": ("lora", "mixture"), "options": {"lora": {"rank": 2}}}
    model = tiny(structures=2, **config)
    file = saved(model, tmp_path / "run.safetensors")
    again = tiny(structures=2, seed=9, weights=file, **config)
    assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in model.state_dict().items())
    assert base_hash(again) == base_hash(model)


def test_official_file_reaches_every_tensor(oracle: Oracle) -> None:
    """Two seeds, one file: nothing is left of the random start, except the branch the file cannot have."""
    first, second = (build_model(ModelConfig(weights=str(oracle.weights)), 128, 4, seed) for seed in (0, 1))
    differ = {n for n, t in first.state_dict().items() if not torch.equal(t, second.state_dict()[n])}
    assert {name.partition(".")[0] for name in differ} == {"detail"}


def test_positions_are_resized_to_the_grid(oracle: Oracle) -> None:
    """128 to 192 px: grid 16 to 24, absolute bicubic, global relative linear, windowed as they are."""
    given = torch.load(oracle.weights, weights_only=True)
    state = build_model(ModelConfig(weights=str(oracle.weights)), 192, 1, 0).state_dict()
    grid = given["image_encoder.pos_embed"].permute(0, 3, 1, 2)
    grid = interpolate(grid, size=(24, 24), mode="bicubic", align_corners=False).permute(0, 2, 3, 1)
    assert torch.allclose(state["vision_encoder.pos_embed"], grid, atol=1e-6)
    table = interpolate(given["image_encoder.blocks.1.attn.rel_pos_h"].T[None], size=47, mode="linear")[0].T
    assert torch.allclose(state["vision_encoder.layers.1.attn.rel_pos_h"], table, atol=1e-6)
    windowed = given["image_encoder.blocks.0.attn.rel_pos_h"]
    assert torch.equal(state["vision_encoder.layers.0.attn.rel_pos_h"], windowed)


def hypernetworks(model: PromptFreeSam) -> list[torch.Tensor]:
    """First weight of each structure's hypernetwork."""
    return [head.proj_in.weight for head in model.mask_decoder.output_hypernetworks_mlps]


def test_added_structures_are_copies_of_the_first(tiny: Make, oracle: Oracle, tmp_path: Path) -> None:
    """A file with 1 hypernetwork gives 3 equal maps; one with 4 gives 4 different and 2 more equal to the first."""
    model = tiny(structures=3, weights=saved(tiny(), tmp_path / "one.safetensors"))
    with torch.no_grad():
        maps = model(torch.rand(1, 3, 64, 64))
    assert torch.allclose(maps, maps[:, :1].expand_as(maps), atol=1e-5)
    wide = build_model(ModelConfig(weights=str(oracle.weights)), 128, 6, 0)
    heads, tokens = hypernetworks(wide), wide.state_dict()[TOKENS]
    assert [torch.equal(heads[0], head) for head in heads] == [True, False, False, False, True, True]
    assert [torch.equal(tokens[0], token) for token in tokens] == [True, False, False, False, True, True]


def test_unused_tokens_keep_their_place(tiny: Make, tmp_path: Path) -> None:
    """They have no map but are attended to: C = 1 loads all four as they were."""
    one = tiny()
    file = saved(one, tmp_path / "one.safetensors")
    assert torch.equal(tiny(weights=file, seed=3).state_dict()[TOKENS], one.state_dict()[TOKENS])


def test_half_precision_and_training_files_are_read(tiny: Make, oracle: Oracle, tmp_path: Path) -> None:
    """bf16 tensors become fp32; a training script's {"model": state} is looked into."""
    state = torch.load(oracle.weights, weights_only=True)
    torch.save({"model": {n: t.bfloat16() for n, t in state.items()}, "epoch": 3}, tmp_path / "half.pth")
    model = build_model(ModelConfig(weights=str(tmp_path / "half.pth")), 128, 1, 0)
    assert all(tensor.dtype == torch.float32 for tensor in model.state_dict().values())


def test_transformers_folder_in_pieces(tiny: Make, tmp_path: Path) -> None:
    """As save_pretrained cuts a large model."""
    model = tiny(output_stride=2)
    state = load_file(saved(model, tmp_path / "whole.safetensors"))
    renamed = {
        n.replace("positions.", "shared_image_embedding.").replace("no_mask_embed", "prompt_encoder.no_mask_embed"): t
        for n, t in state.items()
    }
    (tmp_path / "sam").mkdir()
    names = sorted(renamed)
    for index, part in enumerate((names[:50], names[50:])):
        save_file({name: renamed[name] for name in part}, tmp_path / "sam" / f"model-{index}.safetensors")
    again = tiny(output_stride=2, seed=4, weights=str(tmp_path / "sam"))
    assert base_hash(again) == base_hash(model)
    assert check(tmp_path / "sam").layout == "transformers"


def test_shipped_weights_are_checked(tiny: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(official, "SHIPPED", tmp_path)
    assert "missing" in refusal(lambda: tiny(weights="pretrained"))
    file = Path(saved(tiny(), tmp_path / "sam-tiny.safetensors"))
    digest = sha256(file.read_bytes()).hexdigest()
    file.with_suffix(".json").write_text(json.dumps({"sha256": digest}))
    assert tiny(weights="pretrained", structures=2)
    row = list_weights()[0]
    assert (row.name, row.state, row.checksum) == ("sam-tiny", "shipped", f"sha256:{digest}")
    file.write_bytes(file.read_bytes()[:-1] + b"\x01")
    assert "SHA-256" in refusal(lambda: tiny(weights="pretrained"))


def test_absent_official_weights_name_place_and_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAMMIT_WEIGHTS", str(tmp_path))
    with torch.device("meta"):
        text = refusal(lambda: build_model(ModelConfig(name="sam-vit-b"), 64, 1, 0))
    assert str(tmp_path / "sam_vit_b_01ec64.pth") in text
    assert "sammit weights fetch sam-vit-b" in text
    assert {row.state for row in list_weights() if row.address} == {"absent"}


def test_wrong_bytes_under_an_official_name(oracle: Oracle, tmp_path: Path) -> None:
    forged = tmp_path / "sam_vit_b_01ec64.pth"
    forged.write_bytes(oracle.weights.read_bytes())
    assert "checksum" in refusal(lambda: check(forged))


class Harmful:
    """Pickles into a call, which reading must not make."""

    def __reduce__(self) -> tuple[object, ...]:
        return (print, ("harm",))


def test_code_in_a_pth_is_refused(tiny: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"image_encoder.x": torch.zeros(1), "harm": Harmful()}, tmp_path / "bad.pth")
    assert "refused" in refusal(lambda: tiny(weights=str(tmp_path / "bad.pth")))
    assert "harm" not in capsys.readouterr().out


@pytest.mark.parametrize("keep", [0, 10, 1000, -1000])
def test_a_file_cut_short(tiny: Make, oracle: Oracle, tmp_path: Path, keep: int) -> None:
    (tmp_path / "cut.pth").write_bytes(oracle.weights.read_bytes()[:keep])
    assert "cut short" in refusal(lambda: tiny(weights=str(tmp_path / "cut.pth")))
    whole = Path(saved(tiny(), tmp_path / "whole.safetensors"))
    whole.write_bytes(whole.read_bytes()[:keep])
    assert "cut short" in refusal(lambda: tiny(weights=str(whole)))


def test_text_that_calls_itself_weights(tiny: Make, tmp_path: Path) -> None:
    (tmp_path / "page.pth").write_text("<html>not found</html>")
    assert "cut short" in refusal(lambda: tiny(weights=str(tmp_path / "page.pth")))


def test_other_models_are_refused(tiny: Make, tmp_path: Path) -> None:
    assert "no such file" in refusal(lambda: tiny(weights=str(tmp_path / "none.pth")))
    save_file({"conv.weight": torch.zeros(1)}, tmp_path / "net.safetensors")
    assert "no layout" in refusal(lambda: tiny(weights=str(tmp_path / "net.safetensors")))
    (tmp_path / "empty").mkdir()
    assert "folder" in refusal(lambda: tiny(weights=str(tmp_path / "empty")))
    torch.save([torch.zeros(1)], tmp_path / "list.pth")
    assert "by name" in refusal(lambda: tiny(weights=str(tmp_path / "list.pth")))
    file = saved(tiny(), tmp_path / "tiny.safetensors")
    with torch.device("meta"):
        text = refusal(lambda: build_model(ModelConfig(name="sam-vit-b", weights=file), 64, 1, 0))
    assert "fit sam-tiny, not sam-vit-b" in text


def edited(file: str, **changes: torch.Tensor | None) -> str:
    """A copy of a file with tensors put in, or taken out by None."""
    state = load_file(file) | {name: tensor for name, tensor in changes.items() if tensor is not None}
    target = Path(file).with_name("edited.safetensors")
    save_file({name: tensor for name, tensor in state.items() if changes.get(name, tensor) is not None}, target)
    return str(target)


def test_what_is_missing_or_strange_is_named(tiny: Make, tmp_path: Path) -> None:
    file = saved(tiny(adapter=("lora",)), tmp_path / "lora.safetensors")
    missing, half = "vision_encoder.neck.conv2.bias", "vision_encoder.layers.2.adapters.lora.q_up.weight"
    assert "adapter 'lora'" in refusal(lambda: tiny(weights=file))
    gone = "mask_decoder.upscale_conv2.bias"
    assert gone in refusal(lambda: tiny(weights=edited(file, **{gone: None}), adapter=("lora",)))
    assert half in refusal(lambda: tiny(weights=edited(file, **{half: None}), adapter=("lora",)))
    assert missing in refusal(lambda: tiny(weights=edited(file, **{missing: torch.ones(64)}), adapter=("lora",)))
    other = {"adapter": ("lora",), "options": {"lora": {"rank": 2}}}
    assert "another shape" in refusal(lambda: tiny(weights=file, **other))
    mixed = saved(tiny(structures=2, head="mix"), tmp_path / "mix.safetensors")
    assert "head = 'mix'" in refusal(lambda: tiny(weights=mixed, structures=2))


def test_a_failed_load_leaves_the_model_alone(tiny: Make, tmp_path: Path) -> None:
    model = tiny()
    before = base_hash(model)
    file = edited(saved(tiny(seed=1), tmp_path / "x.safetensors"), **{"vision_encoder.neck.conv2.weight": None})
    refusal(lambda: load_into(model, ModelConfig(weights=file)))
    assert base_hash(model) == before


def test_a_coarser_model_leaves_detail_out(tiny: Make, tmp_path: Path) -> None:
    fine = tiny(output_stride=1)
    coarse = tiny(output_stride=2, weights=saved(fine, tmp_path / "fine.safetensors"))
    assert coarse.detail is None
    assert base_hash(fine, without=[n for n in fine.state_dict() if n.startswith("detail.")]) == base_hash(coarse)


def test_hash_is_of_the_base(tiny: Make) -> None:
    plain = tiny()
    assert base_hash(plain) == base_hash(tiny()) != base_hash(tiny(seed=1))
    assert base_hash(tiny(adapter=("lora",))) == base_hash(tiny(adapter=("bottleneck",))) == base_hash(plain)
    with torch.no_grad():
        plain.positions.positional_embedding[0, 0] += 1e-3
    assert base_hash(plain) != base_hash(tiny())
    assert base_hash(plain, without=["positions.positional_embedding"]) == base_hash(
        tiny(), without=["positions.positional_embedding"]
    )


def test_report(tiny: Make, oracle: Oracle, tmp_path: Path) -> None:
    report = check(oracle.weights)
    assert (report.layout, report.fits, report.structures, report.official) == ("official", ("sam-tiny",), 4, "unknown")
    assert report.sha256 == sha256(oracle.weights.read_bytes()).hexdigest()
    own = tiny(adapter=("lora",))
    report = check(Path(saved(own, tmp_path / "own.safetensors")))
    assert (report.layout, report.adapters, report.structures) == ("sammit", ("lora",), 1)
    assert report.parameters == sum(p.numel() for p in own.parameters())


@pytest.mark.parametrize(("size", "structures"), [(128, 1), (64, 3)])
def test_the_weights_that_ship(size: int, structures: int) -> None:
    """They match their recorded hash, reach every tensor, and are the same whatever the seed."""
    first, second = (build_model(ModelConfig(), size, structures, seed) for seed in (0, 1))
    assert base_hash(first) == base_hash(second)
    assert all(bool(tensor.isfinite().all()) for tensor in first.state_dict().values())
