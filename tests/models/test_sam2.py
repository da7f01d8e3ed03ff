"""Prompt-free SAM 2 against transformers' Sam2Model on the same random weights, and what it has in common with SAM."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import Sam2Model

from models.conftest import randomise, relative
from sammit.config import ModelConfig
from sammit.errors import UserError
from sammit.geometry import resize
from sammit.models.build import build_model, set_checkpointing, set_trainable
from sammit.models.cut import cut_before, prefix_hash
from sammit.models.layouts import adapter_of
from sammit.models.precision import compute_in
from sammit.models.sam import PIXEL_MEAN, PIXEL_STD
from sammit.models.sam2 import PromptFreeSam2, Widening, transformers_config
from sammit.models.sizes import HIERAS
from sammit.models.weights import base_hash, check

ADAPTERS = ("lora", "bottleneck", "condition", "mixture")
SIDES = [(128, 128), (96, 160)]
"""Grids of 8 x 8 and 6 x 10 tokens: neither is a multiple of the windows of 14 there."""


def nano(seed: int = 0, structures: int = 1, **config: Any) -> PromptFreeSam2:
    """A sam2-nano at SAM 2's own step of 4 pixels, unless something else is asked for."""
    settings = {"name": "sam2-nano", "weights": "random", "output_stride": 4, **config}
    model = build_model(ModelConfig(**settings), 64, structures, seed)
    assert isinstance(model, PromptFreeSam2)
    return model


def picture(height: int = 64, width: int = 96, count: int = 2) -> Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(5))


@pytest.fixture(scope="module")
def reference() -> Sam2Model:
    """transformers' model at sam2-nano's sizes; no number of it is zero."""
    torch.manual_seed(0)
    config = transformers_config(HIERAS["sam2-nano"], 1)
    config.mask_decoder_config.dynamic_multimask_via_stability = False
    model = Sam2Model(config).eval()
    randomise(model)
    # Published files hold one matrix under both names.
    model.prompt_encoder.shared_embedding.load_state_dict(model.shared_image_embedding.state_dict())
    return model


@pytest.fixture(scope="module")
def weights(reference: Sam2Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its tensors in a file, as transformers names them."""
    file = tmp_path_factory.mktemp("sam2") / "model.safetensors"
    save_file({name: tensor.float().contiguous() for name, tensor in reference.state_dict().items()}, file)
    return file


def answers(reference: Sam2Model, images: Tensor) -> Any:
    """What transformers' whole forward pass says where no prompt is given, in double precision.

    Left alone it would put two tokens for "not a point" in the prompt's place; SAM's own path has none.
    """
    model, (batch, _, height, width) = reference.double(), images.shape
    model.backbone_feature_sizes = [(height // step, width // step) for step in (4, 8, 16)]
    encoder = model.prompt_encoder
    encoder.image_embedding_size = (height // 16, width // 16)
    dense = encoder.no_mask_embed.weight.reshape(1, -1, 1, 1)
    encoder.forward = lambda **_: (torch.zeros(batch, 1, 0, encoder.hidden_size).double(), dense)
    mean, std = torch.tensor(PIXEL_MEAN).view(3, 1, 1), torch.tensor(PIXEL_STD).view(3, 1, 1)
    return model(pixel_values=(images.double() * 255 - mean) / std, multimask_output=False)


@pytest.mark.parametrize("sides", SIDES, ids=str)
def test_equals_transformers_without_prompts(reference: Sam2Model, weights: Path, sides: tuple[int, int]) -> None:
    """The maps that the encoder hands on, and the logits."""
    ours, images = nano(weights=str(weights)), picture(*sides)
    with torch.no_grad():
        expected = answers(reference, images)
        embedding, middle, fine = ours.vision_encoder(ours._pixels(images))
        found = ours(images)
        embedding = embedding + ours.no_memory_embedding.reshape(1, -1, 1, 1)
        seen = (ours.mask_decoder.conv_s0(fine), ours.mask_decoder.conv_s1(middle), embedding)
    for one, other in zip(seen, expected.image_embeddings, strict=True):
        assert relative(one, other) <= 1e-5
    assert found.shape == (2, 1, sides[0] // 4, sides[1] // 4)
    assert relative(found, expected.pred_masks[:, 0]) <= 1e-5


def test_every_gradient_equals_transformers(reference: Sam2Model, weights: Path) -> None:
    ours, images = nano(weights=str(weights)).double(), picture(96, 160)
    live = set(set_trainable(ours, "all"))
    ours(images.double()).square().mean().backward()
    reference.zero_grad()
    answers(reference, images).pred_masks.square().mean().backward()
    theirs = {ours_named(name): p.grad for name, p in reference.named_parameters()}
    for name, parameter in ours.named_parameters():
        if name in live and not name.endswith("k_proj.bias"):  # softmax leaves rounding of them
            assert relative(parameter.grad, theirs[name]) <= 1e-6, name


def ours_named(name: str) -> str:
    name = re.sub(r"^vision_encoder\.backbone\.(blocks\.)?", lambda m: "vision_encoder." + "layers." * bool(m[1]), name)
    return name.replace(".o_proj.", ".out_proj.")


OFFICIAL = {
    r"^vision_encoder\.backbone\.patch_embed\.projection": "image_encoder.trunk.patch_embed.proj",
    r"^vision_encoder\.backbone": "image_encoder.trunk",
    r"^vision_encoder\.neck\.convs\.(\d)": r"image_encoder.neck.convs.\1.conv",
    r"^mask_decoder": "sam_mask_decoder",
    r"^prompt_encoder\.shared_embedding\.positional_embedding": (
        "sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"
    ),
    r"^prompt_encoder": "sam_prompt_encoder",
    r"^no_memory_embedding": "no_mem_embed",
    r"layer_norm(\d)": r"norm\1",
    r"layer_norm_final_attn": "norm_final_attn",
    r"\.o_proj": ".out_proj",
    r"(_mlps\.\d|_head)\.layers\.0": r"\1.layers.1",
    r"(_mlps\.\d|_head)\.proj_in": r"\1.layers.0",
    r"(_mlps\.\d|_head)\.proj_out": r"\1.layers.2",
    r"\.mlp\.proj_in": ".mlp.layers.0",
    r"\.mlp\.proj_out": ".mlp.layers.1",
    r"upscale_conv1": "output_upscaling.0",
    r"upscale_layer_norm": "output_upscaling.1",
    r"upscale_conv2": "output_upscaling.3",
}
"""How sam2 names what transformers names otherwise, one after the other."""


def official_name(name: str) -> str:
    for pattern, replacement in OFFICIAL.items():
        name = re.sub(pattern, replacement, name)
    return name


def test_the_official_layout(reference: Sam2Model, weights: Path, tmp_path: Path) -> None:
    """As published, with the parts for video, and as MedSAM2 and other descendants keep it."""
    state = {n: t.float() for n, t in reference.state_dict().items() if not n.startswith("shared_image")}
    state = {official_name(name): tensor for name, tensor in state.items()}
    video = ["memory_attention.layers.0.norm1.weight", "maskmem_tpos_enc", "no_obj_ptr", "obj_ptr_proj.layers.0.weight"]
    more = [*video, "no_mem_pos_enc", "mask_downsample.weight", "no_obj_embed_spatial", "obj_ptr_tpos_proj.bias"]
    torch.save({"model": state | {name: torch.zeros(1) for name in more}}, tmp_path / "sam2.pt")
    found = nano(weights=str(tmp_path / "sam2.pt"), seed=3).state_dict()
    expected = nano(weights=str(weights)).state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    report = check(tmp_path / "sam2.pt")
    assert (report.layout, report.fits, report.structures) == ("official", ("sam2-nano",), 4)
    assert check(weights).layout == "transformers"


def test_a_file_reaches_every_tensor(weights: Path) -> None:
    """Two seeds, one file: nothing is left of the random start, except the branch that the file cannot have."""
    first, second = (nano(seed, 4, weights=str(weights), output_stride=2).state_dict() for seed in (0, 1))
    differ = {name.partition(".")[0] for name in first if not torch.equal(first[name], second[name])}
    assert differ == {"detail"}


def test_own_file_comes_back_bit_for_bit(tmp_path: Path) -> None:
    model = nano(structures=2, adapter=ADAPTERS, output_stride=2)
    randomise(model)
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, tmp_path / "own.safetensors")
    again = nano(9, 2, adapter=ADAPTERS, output_stride=2, weights=str(tmp_path / "own.safetensors"))
    assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in model.state_dict().items())
    assert base_hash(again) == base_hash(model)
    assert check(tmp_path / "own.safetensors").layout == "sammit"


@pytest.mark.parametrize("name", sorted(HIERAS))
def test_every_size_builds(name: str) -> None:
    """Without memory: shapes only."""
    size = HIERAS[name]
    with torch.device("meta"):
        model = build_model(ModelConfig(name=name, weights="random"), 64, 1, 0)
    blocks = model.vision_encoder.blocks
    assert (model.patch, model.stride, len(blocks)) == (size.patch, size.stride, size.depth)
    assert model.vision_encoder.step == size.step
    assert [i for i, block in enumerate(blocks) if not block.window] == list(size.global_blocks)
    starts = [i for i, block in enumerate(blocks) if isinstance(block, Widening)]
    assert starts == [sum(size.depths[:stage]) for stage in (1, 2, 3)]
    assert [blocks[i].width for i in (0, *starts)] == list(size.widths)


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"weights": "pretrained"}, "nobody publishes weights for sam2-nano; set model.weights = 'random'"),
        ({"name": "sam2-tiny", "weights": "pretrained"}, "run 'sammit weights fetch sam2-tiny'"),
        ({"output_stride": 8}, "at most 4 for sam2-nano"),
    ],
)
def test_mistakes_are_lines(config: dict[str, Any], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAMMIT_WEIGHTS", str(tmp_path))
    with torch.device("meta"), pytest.raises(UserError, match=re.escape(says)):
        nano(**config)


def test_other_weights_are_refused(weights: Path, tmp_path: Path) -> None:
    """SAM 2's in SAM, SAM's in SAM 2: by name."""
    with pytest.raises(UserError, match="fit sam2-nano, not sam-tiny"):
        nano(name="sam-tiny", weights=str(weights), output_stride=2)
    sam = build_model(ModelConfig(weights="random"), 64, 1, 0)
    save_file({name: tensor.contiguous() for name, tensor in sam.state_dict().items()}, tmp_path / "sam.safetensors")
    with pytest.raises(UserError, match="fit sam-tiny, not sam2-nano"):
        nano(weights=str(tmp_path / "sam.safetensors"))


def test_other_sides_are_refused() -> None:
    with pytest.raises(UserError, match="80 is not a multiple of 32"):
        build_model(ModelConfig(name="sam2-nano", weights="random"), 80, 1, 0)
    with pytest.raises(ValueError, match="multiples of the patch, 32"):
        nano()(torch.rand(1, 3, 64, 80))


def test_the_detail_branch_starts_as_sam2_resized() -> None:
    coarse, fine = nano(structures=2), nano(structures=2, output_stride=1)
    fine.load_state_dict(coarse.state_dict(), strict=False)
    with torch.no_grad():
        found, expected = fine(picture()), resize(coarse(picture()), (64, 96))
    assert relative(found, expected) <= 1e-5


def test_cases_of_a_batch_do_not_meet() -> None:
    model = nano(structures=2)
    randomise(model)
    with torch.no_grad():
        alone = torch.cat([model(image.unsqueeze(0)) for image in picture(count=3)])
        assert relative(model(picture(count=3)), alone) <= 1e-5


@pytest.mark.parametrize(("head", "structures"), [("tokens", 1), ("tokens", 5), ("mix", 2)])
def test_every_live_name_gets_a_gradient(head: str, structures: int) -> None:
    """And no other does: nothing is built, trained or sent that is not used. Away from zero initialisation."""
    options = {"condition": {"reduction": 4}}
    model = nano(0, structures, adapter=(*ADAPTERS, "decoder_lora"), options=options, head=head, output_stride=2)
    randomise(model, 0.1)
    live = set_trainable(model, "all")
    (model(picture()) ** 2).sum().backward()
    assert {name for name, p in model.named_parameters() if p.grad is not None} == set(live)
    with_gradient = {name for name, p in model.named_parameters() if p.grad is not None and bool(p.grad.any())}
    keys = {name for name in live if name.endswith(".k_proj.bias")}
    assert set(live) - keys == with_gradient - keys
    assert not any(name.startswith(("positions", "no_m")) for name in live)


@pytest.mark.parametrize("train", ["adapters", "decoder", "last:1", "last:2"])
def test_what_is_frozen(train: str) -> None:
    """By whole names, as with SAM: the pyramid's neck trains with the last blocks."""
    live = set_trainable(nano(adapter=("lora",)), train)
    inside = {name for name in live if name.startswith("vision_encoder.") and adapter_of(name) is None}
    blocks = {int(name.split(".")[2]) for name in inside if ".layers." in name}
    assert blocks == {"last:1": {4}, "last:2": {3, 4}}.get(train, set())
    assert any(".neck." in name for name in inside) == train.startswith("last:")
    assert any(adapter_of(name) for name in live) == (train != "decoder")


def test_adapters_add_nothing_at_first() -> None:
    """Bit for bit; and each has its block's own width."""
    plain, adapted = nano(), nano(adapter=(*ADAPTERS, "decoder_lora"))
    with torch.no_grad():
        assert torch.equal(plain(picture()), adapted(picture()))
    widths = [block.adapters["lora"].q_down.in_features for block in adapted.vision_encoder.blocks]
    assert widths == [16, 32, 64, 64, 128]
    assert base_hash(plain) == base_hash(adapted)


@pytest.mark.parametrize("options", [{"bottleneck": {}}, {"mixture": {"beside": "attention"}}, {"lora": {}}], ids=str)
def test_an_adapter_of_each_block_matters(options: dict[str, Any]) -> None:
    """Those of the blocks that widen too; switched off it is as if it were not there."""
    (name,) = options
    model = nano(adapter=(name,), options=options)
    with torch.no_grad():
        before = model(picture())
        for block in model.vision_encoder.blocks:
            adapter = block.adapters[name]
            randomise(adapter, 0.5)
            assert relative(model(picture()), before) > 1e-4
            adapter.active = False  # type: ignore[assignment]
            assert torch.equal(model(picture()), before)


def test_factors_are_their_merged_matrices() -> None:
    """W + s B A, and in a block that widens W + s B A P, b + s B A p: P and p project its input to its width."""
    model, merged = nano(adapter=("lora",), options={"lora": {"alpha": 8.0}}), nano()
    for block, plain in zip(model.vision_encoder.blocks, merged.vision_encoder.blocks, strict=True):
        lora: Any = block.adapters["lora"]
        randomise(lora, 0.3)
        width = block.width
        for third, down, up in ((0, lora.q_down, lora.q_up), (2, lora.v_down, lora.v_up)):
            change, rows = 2 * up.weight.data @ down.weight.data, slice(third * width, (third + 1) * width)
            if isinstance(plain, Widening):
                plain.attn.qkv.bias.data[rows] += change @ plain.proj.bias.data
                change = change @ plain.proj.weight.data
            plain.attn.qkv.weight.data[rows] += change
    with torch.no_grad():
        assert relative(model(picture()), merged(picture())) <= 1e-5
        assert relative(merged(picture()), nano()(picture())) > 1e-3


@pytest.mark.parametrize("cut", range(6))
def test_a_prefix_is_the_first_blocks(cut: int) -> None:
    """Wherever the cut lies, the finer maps that stages before it said are in it."""
    model, images = nano(), picture()
    randomise(model)
    model.vision_encoder.cut = cut
    with torch.no_grad():
        prefix, whole = model.prefix(images), model(images)
        assert prefix.shape == (2, *model.vision_encoder.prefix_shape(64, 96))
        for layer in model.vision_encoder.blocks[:cut]:
            layer.attn.qkv.weight.zero_()
        assert relative(model(images, prefix), whole) <= 1e-6


def test_the_cut_is_found_and_hashed() -> None:
    model = nano()
    assert cut_before(model, set_trainable(model, "last:2")) == 3
    assert cut_before(model, set_trainable(model, "decoder")) == 5
    with pytest.raises(UserError, match=r"vision_encoder\.pos_embed"):
        cut_before(model, set_trainable(model, "all"))
    model.vision_encoder.cut = 3
    first = prefix_hash(model)
    for name, tensor in model.state_dict().items():
        kept = tensor.clone()
        tensor.view(-1)[0] += 0.5
        early = re.match(r"vision_encoder\.(p|layers\.[012]\.)", name) is not None
        assert (prefix_hash(model) != first) == early, name
        tensor.copy_(kept)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_checkpointing_gives_the_same_numbers(precision: str) -> None:
    def gradients(checkpointing: bool) -> dict[str, Tensor]:
        model = nano(adapter=ADAPTERS)
        randomise(model)
        compute_in(model, precision, set_trainable(model, "adapters"))
        if checkpointing:
            set_checkpointing(model)
        model(picture()).square().mean().backward()
        return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}

    plain, again = gradients(False), gradients(True)
    assert plain.keys() == again.keys() and all(torch.equal(plain[name], again[name]) for name in plain)


def test_bf16_stays_near() -> None:
    exact, rough = nano(), nano()
    compute_in(rough, "bf16")
    with torch.no_grad():
        found, expected = rough(picture()), exact(picture())
    assert found.dtype == torch.float32 and 0 < relative(found, expected) < 0.05
    assert rough.vision_encoder.blocks[1].proj.weight.dtype == torch.bfloat16


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sam2-tiny", "sam2-base-plus", "sam2-large"])
def test_the_real_architectures_equal_transformers(name: str, tmp_path: Path) -> None:
    """Random weights, 512 pixels."""
    torch.manual_seed(0)
    config = transformers_config(HIERAS[name], 1)
    config.mask_decoder_config.dynamic_multimask_via_stability = False
    reference = Sam2Model(config).eval()
    save_file({n: t.contiguous() for n, t in reference.state_dict().items()}, tmp_path / "model.safetensors")
    ours, images = nano(name=name, weights=str(tmp_path / "model.safetensors")), picture(512, 512, 1)
    with torch.no_grad():
        assert relative(ours(images), answers(reference, images).pred_masks[:, 0]) <= 1e-4
