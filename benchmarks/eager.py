"""SAM as it is fine-tuned elsewhere: transformers' encoder, eager, in fp32; and Sammit's under each of its settings."""

from __future__ import annotations

from typing import Any

REFERENCE = "reference"

RETURNING = "reference, memory given back"
"""The reference with what `sammit` does where memory is to be small: a saving that needs no model of ours."""

SIDES = {
    REFERENCE: ("fp32", False),
    RETURNING: ("fp32", False),
    "fp32": ("fp32", False),
    "fp32, checkpointing": ("fp32", True),
    "bf16": ("bf16", False),
    "bf16, checkpointing": ("bf16", True),
}
"""Precision and checkpointing of each side; the references have transformers' encoder in our encoder's place."""


def built(side: str, name: str, size: int, device: str) -> tuple[Any, list[str]]:
    """A model with FedMSA's bottlenecks, random weights, as one side of `SIDES` has it; and its live names."""
    from sammit.config import ModelConfig
    from sammit.models.build import SIZES, build_model, set_checkpointing, set_trainable
    from sammit.models.precision import compute_in

    precision, checkpointing = SIDES[side]
    config = ModelConfig(name, "random", ("bottleneck",), output_stride=SIZES[name].patch // 4)
    model: Any = build_model(config, size, 1, 0)
    if side.startswith("reference"):
        model.vision_encoder = _eager(model.vision_encoder, name, size)
    names = set_trainable(model, "adapters")
    compute_in(model, precision, names)
    if checkpointing:
        set_checkpointing(model)
    return model.to(device), names


def _eager(ours: Any, name: str, size: int) -> Any:
    """transformers' encoder with our weights and adapters, called as ours is."""
    from torch import nn
    from transformers.models.sam.modeling_sam import SamVisionEncoder

    from sammit.models import build

    config = build.transformers_config(build.SIZES[name], size, 1).vision_config
    config._attn_implementation = "eager"
    encoder: Any = SamVisionEncoder(config)
    encoder.load_state_dict({k: v for k, v in ours.state_dict().items() if ".adapters." not in k})
    for layer, block in zip(encoder.layers, ours.blocks, strict=True):
        layer.adapters = adapters = block.adapters
        bottleneck = adapters["bottleneck"]
        layer.attn.register_forward_hook(_after_attention(bottleneck))
        layer.mlp.register_forward_hook(_beside_mlp(bottleneck))

    class Called(nn.Module):
        """An embedding, not a record."""

        def __init__(self) -> None:
            super().__init__()
            self.encoder = encoder

        def forward(self, pixels: Any, prefix: None = None) -> Any:
            return self.encoder(pixels).last_hidden_state

    return Called()


def _after_attention(bottleneck: Any) -> Any:
    return lambda module, given, said: (said[0] + bottleneck.after_attention(said[0]), *said[1:])


def _beside_mlp(bottleneck: Any) -> Any:
    return lambda module, given, said: said + bottleneck.beside_mlp(given[0])


def beside_reference(name: str, what: str, found: dict[str, Any], device: str) -> dict[str, Any]:
    """A benchmark's figures from those of its sides: each with its ratios to the reference; `ours` is bf16.

    Args:
        name: the benchmark's.
        what: is measured, in seconds.
        found: side -> seconds, peak_bytes, and `check`, a number that shows that the sides did the same.
        device: where.
    """
    reference = found[REFERENCE]
    sides = {
        side: {
            "seconds": round(one["seconds"], 4),
            "times_faster": round(reference["seconds"] / one["seconds"], 2),
            "peak_MiB": round(one["peak_bytes"] / 2**20),
            "of_reference_peak": round(one["peak_bytes"] / reference["peak_bytes"], 3),
            "check": round(one["check"], 4),
            **{name: round(one[name], 4) for name in ("images_per_second", "of_bf16_rate") if name in one},
        }
        for side, one in found.items()
    }
    return {
        "name": name,
        "ours": sides["bf16"]["seconds"],
        "reference": sides[REFERENCE]["seconds"],
        "ratio": sides["bf16"]["times_faster"],
        "unit": f"seconds {what}; the ratio is how many times faster",
        "sides": sides,
        "machine": device_name(device),
    }


def peak_bytes(device: str) -> int:
    """Largest memory so far: of the device where it has its own, of this process otherwise."""
    import torch

    from benchmarks.measure import memory

    return torch.cuda.max_memory_allocated() if device.startswith("cuda") else memory()["peak"]


def waited(device: str) -> float:
    """The clock, once the device has done all it was given."""
    from time import perf_counter

    import torch

    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return perf_counter()


def matrix_rate(device: str, side: int = 4096) -> float:
    """Operations a second of a product of two large matrices in bf16, the best of five."""
    import torch

    one = torch.randn(side, side, device=device).bfloat16()
    seconds = []
    for _ in range(6):
        started = waited(device)
        torch.mm(one, one)
        seconds.append(waited(device) - started)
    return 2 * side**3 / min(seconds[1:])


def device_name(device: str) -> str:
    """The machine, and the GPU where one is used."""
    import torch

    from benchmarks.measure import machine

    return f"{torch.cuda.get_device_name()}, {machine()}" if device.startswith("cuda") else machine()
