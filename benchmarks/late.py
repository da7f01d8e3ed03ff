"""One step on the last blocks of ViT-B with kept activations, against transformers' encoder run whole.

    python -m benchmarks.late [--size 256] [--blocks 2] [--steps 9] [--device cuda] [--precision bf16] [--json]

Low-rank factors and experts in the last blocks and the decoder train, the same tensors on both sides; random weights.
The reference is transformers' encoder, eager, fp32, forward through all blocks. Ours includes finding the kept
activations on disk and reading them. Both sides take their steps by turns in one process; seconds are medians.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from copy import copy
from dataclasses import replace
from statistics import median
from time import perf_counter
from typing import Any

from benchmarks.measure import machine, show


def reference_of(model: Any, name: str, size: int) -> Any:
    """The same model around transformers' own encoder: its weights copied, adapters shared, by hooks."""
    import torch
    from torch import nn
    from transformers.models.sam.modeling_sam import SamVisionEncoder

    from sammit.models import build

    settings = build.transformers_config(build.SIZES[name], size, 1).vision_config
    settings._attn_implementation = "eager"

    class Whole(nn.Module):
        """transformers' encoder with places for adapters."""

        def __init__(self) -> None:
            super().__init__()
            self.original = SamVisionEncoder(settings)
            own = {name: t for name, t in model.vision_encoder.state_dict().items() if ".adapters." not in name}
            self.original.load_state_dict(own)
            self.adapters = nn.ModuleList()
            for block, layer in zip(model.vision_encoder.blocks, self.original.layers, strict=True):
                for adapter in block.adapters.values():
                    self.adapters.append(adapter)
                    layer.attn.qkv.register_forward_hook(beside(adapter.to_qkv))
                    layer.mlp.register_forward_hook(beside(adapter.beside_mlp))

        def forward(self, pixels: torch.Tensor, prefix: None = None) -> torch.Tensor:
            return self.original(pixels)[0]

    def beside(add: Callable[[Any], Any]) -> Callable[..., Any]:
        def hook(_: Any, given: Any, said: Any) -> Any:
            extra = add(given[0])
            return said if extra is None else said + extra

        return hook

    whole = copy(model)
    whole._modules = {**model._modules, "vision_encoder": Whole().to(next(model.parameters()).device)}
    return whole


def measured(args: argparse.Namespace, folder: str) -> dict[str, Any]:
    """Both sides' seconds a step, and how far their logits are apart."""
    import torch

    from sammit.config import DataConfig, Experiment, ModelConfig, TrainingConfig
    from sammit.federation.prefix import PrefixCache
    from sammit.learning.loop import Trainer
    from sammit.learning.losses import segmentation_loss
    from sammit.models.build import SIZES, build_model, set_trainable
    from sammit.models.precision import compute_in
    from sammit.vocabulary import Batch

    late = {"blocks": f"last:{args.blocks}"}
    options, stride = {"lora": late, "mixture": late}, SIZES[args.model].patch // 4
    config = ModelConfig(args.model, "random", ("lora", "mixture"), output_stride=stride, options=options)
    model = build_model(config, args.size, 1, 0).to(args.device)
    names = set_trainable(model, "adapters")
    whole = reference_of(model, args.model, args.size)
    compute_in(model, args.precision, names)
    own = dict(model.named_parameters())
    trained = {id(own[name]) for name in names}
    names_whole = [name for name, parameter in whole.named_parameters() if id(parameter) in trained]
    assert len(names_whole) == len(names)

    shape = (args.batch, 1, args.size, args.size)
    batch = Batch(torch.rand(args.batch, 3, args.size, args.size), torch.rand(shape).round(), torch.ones(shape))
    training = TrainingConfig(
        local_steps=args.steps, batch_size=args.batch, device=args.device, precision=args.precision, prefix_cache="4GB"
    )
    data = DataConfig(size=args.size, views=1, cache=folder)
    cache = PrefixCache(Experiment(data=data, training=training), model, names)
    with torch.no_grad():
        kept = model(*cache.with_prefix(batch).to(args.device).inputs)
        full = whole(batch.images.to(args.device))
        apart = float((kept - full).norm() / full.norm())

    def step(trainer: Trainer, network: Any, prepare: Callable[[Batch], Batch]) -> float:
        started = now(args.device)
        trainer.step(prepare(batch), lambda b: segmentation_loss(network(*b.inputs), b))
        return now(args.device) - started

    ours = Trainer(model, names, training, 0, args.steps)
    theirs = Trainer(whole, names_whole, replace(training, precision="fp32"), 0, args.steps)
    times: dict[str, list[float]] = {"ours": [], "reference": []}
    for _ in range(args.steps):
        times["ours"].append(step(ours, model, cache.with_prefix))
        times["reference"].append(step(theirs, whole, lambda b: b))
    seconds = {side: median(found[1:] or found) for side, found in times.items()}
    return {**seconds, "ratio": seconds["reference"] / seconds["ours"], "logits_apart": apart}


def now(device: str) -> float:
    """The clock, once the device has done what it was given."""
    import torch

    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    return perf_counter()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="sam-vit-b", help="sam-tiny tries the script in seconds")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--blocks", type=int, default=2, help="how many of the last blocks train")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--steps", type=int, default=9, help="of each side; the first of each is not counted")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32", help="of our side")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measured(args, folder)
    show(
        {
            "name": "late",
            "model": args.model,
            "pixels": args.size,
            "blocks": args.blocks,
            "batch": args.batch,
            "ours": round(found["ours"], 4),
            "reference": round(found["reference"], 4),
            "ratio": round(found["ratio"], 2),
            "unit": "seconds a step",
            "precision": args.precision,
            "logits_apart": float(f"{found['logits_apart']:.1e}"),
            "machine": machine(),
        },
        args.json,
    )


if __name__ == "__main__":
    main()
