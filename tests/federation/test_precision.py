"""A run in bf16: one base with fp32, written down, kept on resume, and the same in training, scoring and use."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from sammit.errors import UserError
from sammit.federation.prepare import prepare
from sammit.predict import load_predictor
from sammit.runs import RunFolder

BF16: dict[str, dict[str, Any]] = {"training": {"precision": "bf16", "checkpointing": True, "rounds": 1}}


def test_the_backbone_is_kept_in_bf16_and_what_changes_in_fp32(sites: Path) -> None:
    """The base's hash is the fp32 one's: sites that compute otherwise still start from one base."""
    half, full = (prepare(tiny.experiment(sites, "pfedsam", **tables)) for tables in (BF16, {}))
    assert half.backbone.base == full.backbone.base != ""
    assert half.backbone.live == full.backbone.live
    assert {tensor.dtype for tensor in half.backbone.start.values()} == {torch.float32}
    parameters = dict(half.backbone.model.named_parameters())
    assert {parameters[name].dtype for name in half.backbone.start} == {torch.float32}
    assert parameters["vision_encoder.layers.0.attn.qkv.weight"].dtype == torch.bfloat16
    assert half.parameters() == full.parameters()


def test_a_run_in_bf16(tmp_path: Path, sites: Path) -> None:
    """It is written down, cannot be changed half-way, and the model in use is the one that was scored."""
    experiment = tiny.experiment(sites, "pfedsam", **BF16)
    out = tiny.run(experiment, tmp_path / "run")
    environment = json.loads((out / "environment.json").read_text())
    assert environment["precision"] == "bf16"
    assert environment["base_weights"] == prepare(tiny.experiment(sites, "pfedsam")).backbone.base
    assert RunFolder.open(out).experiment.training.checkpointing
    (out / "summary.json").unlink()
    with pytest.raises(UserError, match=r"started with training\.precision = 'bf16', not 'fp32'"):
        tiny.run(tiny.experiment(sites, "pfedsam", training={"checkpointing": True, "rounds": 1}), out, resume=True)
    tiny.run(experiment, out, resume=True)
    model: Any = load_predictor(out, "aster").model
    assert model.in_bf16
    assert model.vision_encoder.layers[0].attn.qkv.weight.dtype == torch.bfloat16
    with torch.inference_mode():
        assert model(torch.rand(1, 3, 32, 32)).dtype == torch.float32
