"""What a reader of an export needs beside the model, as JSON: docs/export.md says what each key means."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from sammit.exporting.trained import Trained
from sammit.files import write_atomically

VERSION = 1


def facts(trained: Trained) -> dict[str, Any]:
    """The facts of a model: no path, no case, no patient."""
    predictor, view = trained.predictor, trained.predictor.view
    data = predictor.data
    return {
        "format": "sammit-export",
        "version": VERSION,
        "input": {"name": "image", "shape": ["batch", 3, view.size, view.size], "type": "float32", "range": [0, 1]},
        "output": {"name": "logits", "shape": ["batch", *logits_shape(trained)], "type": "float32"},
        "structures": list(predictor.structures),
        "threshold": {"logit": 0.0, "after": "resizing the logits to native pixels"},
        "view": {
            "kind": view.kind,
            "size": view.size,
            "scale": view.scale,
            "longest": view.longest,
            "overlap": view.overlap,
            "resampling": view.resampling,
        },
        "reading": {
            "channels": list(predictor.channels),
            "window": list(data.window),
            "intensity": data.intensity,
            "axis": data.axis,
            "slices": data.slices,
        },
        "notes": list(trained.notes),
    }


def logits_shape(trained: Trained) -> tuple[int, ...]:
    """(C, h, w) of the logits of one image."""
    with torch.inference_mode():
        return tuple(trained.model(example(trained, 1)).shape[1:])


def example(trained: Trained, batch: int) -> torch.Tensor:
    """(batch, 3, size, size) images that a graph is traced with."""
    size = trained.predictor.view.size
    return torch.rand(batch, 3, size, size, generator=torch.Generator().manual_seed(0))


def write_facts(path: Path, trained: Trained, **more: Any) -> None:
    """Write the facts, and what a format adds to them."""
    write_atomically(path, json.dumps({**facts(trained), **more}, indent=2) + "\n")
