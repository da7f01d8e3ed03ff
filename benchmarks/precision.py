"""What bf16 costs in exactness: logits, masks and gradients of the same weights in bf16 and in fp32.

    python -m benchmarks.precision [--size 256] [--images 8] [--device cpu] [--json]

`sam-tiny` has its shipped weights and sees generated eyes at 128 px, one after another; ViT-B has random weights and
sees noise at `--size` px. An error is the norm of the difference over the norm in fp32, of all gradients together; for
masks it is the share of pixels that change sides. No figure is a time. `ours` is the error of `sam-tiny`'s logits, the
reference the error of a single number rounded to bf16 at its worst.
"""

from __future__ import annotations

import argparse
from copy import deepcopy
from typing import Any

from benchmarks.eager import device_name
from benchmarks.measure import show

ROUNDING = 2**-9


def errors(name: str, weights: str, pictures: Any, device: str) -> dict[str, float]:
    """Errors of one model over (N, 3, H, W) pictures, one at a time."""
    import torch

    from sammit.config import ModelConfig
    from sammit.models.build import build_model, set_trainable
    from sammit.models.precision import compute_in

    full: Any = build_model(ModelConfig(name, weights, ("bottleneck",)), pictures.shape[-1], 1, 0)
    live = set_trainable(full, "adapters")
    half = deepcopy(full)
    compute_in(half, "bf16", live)
    seen = pictures.to(device).unsqueeze(1)
    exact, rough = (torch.cat([_with_gradient(m.to(device), picture) for picture in seen]) for m in (full, half))
    gradients = [torch.cat([dict(m.named_parameters())[n].grad.flatten() for n in live]) for m in (full, half)]
    return {
        "logits": float((rough - exact).norm() / exact.norm()),
        "pixels_that_change_sides": float(((rough > 0) != (exact > 0)).float().mean()),
        "gradient": float((gradients[1] - gradients[0]).norm() / gradients[0].norm()),
    }


def _with_gradient(model: Any, picture: Any) -> Any:
    """Logits of one picture; their mean square goes into the gradients."""
    logits = model(picture)
    logits.square().mean().backward()
    return logits.detach()


def eyes(count: int) -> Any:
    """(N, 3, 128, 128) in [0, 1], as the demo draws them."""
    import torch

    from sammit.data.phantom import DEMO, draw_eye
    from sammit.geometry import resize

    drawn = (draw_eye(DEMO["cedar"], (0, "precision", index, 0))[0] for index in range(count))
    pictures = (torch.from_numpy(eye).permute(2, 0, 1).unsqueeze(0).float() / 255 for eye in drawn)
    return torch.cat([resize(picture, (128, 128)) for picture in pictures])


def main() -> None:
    """Both models."""
    import torch

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    noise = torch.rand(1, 3, args.size, args.size, generator=torch.Generator().manual_seed(0))
    tiny = errors("sam-tiny", "pretrained", eyes(args.images), args.device)
    large = errors("sam-vit-b", "random", noise, args.device)
    show(
        {
            "name": "precision",
            "ours": round(tiny["logits"], 5),
            "reference": ROUNDING,
            "ratio": round(tiny["logits"] / ROUNDING, 2),
            "unit": "relative norm of bf16's error in logits",
            "sam-tiny": {key: round(value, 5) for key, value in tiny.items()},
            "sam-vit-b": {key: round(value, 5) for key, value in large.items()},
            "machine": device_name(args.device),
        },
        args.json,
    )


if __name__ == "__main__":
    main()
