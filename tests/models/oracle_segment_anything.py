"""Run Meta's segment-anything on random weights and keep what it says; a script, in a process of its own.

    python oracle_segment_anything.py FOLDER '{"size": 128, "arch": "tiny" | "vit_b"}'

Writes FOLDER/weights.pth in the official layout and FOLDER/answers.safetensors. The package wants torchvision, which
must not be installed here, for functions that the model itself never calls: they are stubs.
"""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from types import ModuleType


def stub(name: str, *functions: str) -> None:
    """A module in sys.modules with functions that do nothing."""
    module = ModuleType(name)
    for function in functions:
        setattr(module, function, None)
    sys.modules[name] = module


stub("torchvision")
stub("torchvision.ops")
stub("torchvision.ops.boxes", "batched_nms", "box_area")
stub("torchvision.transforms")
stub("torchvision.transforms.functional", "resize", "to_pil_image")

import torch  # noqa: E402
from safetensors.torch import save_file  # noqa: E402
from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, TwoWayTransformer  # noqa: E402

TINY = {"width": 96, "depth": 4, "heads": 4, "every": (1, 3), "patch": 8, "window": 8, "neck": 64, "mlp": 256}
VIT_B = {"width": 768, "depth": 12, "heads": 12, "every": (2, 5, 8, 11), "patch": 16, "window": 14, "neck": 256}
MEAN, STD = torch.tensor([123.675, 116.28, 103.53]), torch.tensor([58.395, 57.12, 57.375])


def build(size: int, arch: dict) -> torch.nn.ModuleDict:
    """The three parts of segment-anything under the names that its checkpoints use."""
    grid, neck = size // arch["patch"], arch["neck"]
    encoder = ImageEncoderViT(
        img_size=size,
        patch_size=arch["patch"],
        embed_dim=arch["width"],
        depth=arch["depth"],
        num_heads=arch["heads"],
        out_chans=neck,
        norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
        use_rel_pos=True,
        window_size=arch["window"],
        global_attn_indexes=arch["every"],
    )
    prompt = PromptEncoder(neck, (grid, grid), (size, size), 16)
    transformer = TwoWayTransformer(2, neck, arch.get("heads_decoder", 4 if neck == 64 else 8), arch.get("mlp", 2048))
    decoder = MaskDecoder(transformer_dim=neck, transformer=transformer)
    return torch.nn.ModuleDict({"image_encoder": encoder, "prompt_encoder": prompt, "mask_decoder": decoder})


def randomise(model: torch.nn.Module, std: float) -> None:
    """Noise on every parameter, so that none (relative positions, biases) is zero by its initialisation."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * std)


@torch.no_grad()
def answers(model: torch.nn.ModuleDict, size: int) -> dict[str, torch.Tensor]:
    """Stock: normalised pixels, no prompts. FedFMS: pixels / 255, no no-mask embedding, all four tokens' maps."""
    encoder, prompt, decoder = model["image_encoder"], model["prompt_encoder"], model["mask_decoder"]
    image = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(2))
    stock = encoder((image * 255 - MEAN.view(3, 1, 1)) / STD.view(3, 1, 1))
    sparse, dense = prompt(points=None, boxes=None, masks=None)
    given = {"image_pe": prompt.get_dense_pe(), "sparse_prompt_embeddings": sparse}
    masks, _ = decoder(image_embeddings=stock, dense_prompt_embeddings=dense, multimask_output=False, **given)
    plain = encoder(image)
    four, _ = decoder.predict_masks(image_embeddings=plain, dense_prompt_embeddings=torch.zeros_like(dense), **given)
    return {"image": image, "embedding": stock, "stock": masks, "fedfms": four}


def main() -> None:
    """Build, ask, write."""
    folder, spec = Path(sys.argv[1]), json.loads(sys.argv[2])
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = build(spec["size"], TINY if spec["arch"] == "tiny" else VIT_B).eval()
    randomise(model, 0.05 if spec["arch"] == "tiny" else 0.02)
    torch.save(model.state_dict(), folder / "weights.pth")
    save_file(
        {name: t.contiguous() for name, t in answers(model, spec["size"]).items()}, folder / "answers.safetensors"
    )


if __name__ == "__main__":
    main()
