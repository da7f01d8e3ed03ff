"""The scripts of this bundle: its TorchScript over images, without Sammit."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parent))
import masks


def predict(network: Any, device: str, root: str, images: str, out: str) -> list[Path]:
    """Write the masks of every image of a folder.

    Args:
        network: the TorchScript, on `device`.
        device: as torch names it.
        root: the bundle.
        images: a folder.
        out: a folder, made if missing.
    """
    facts = json.loads(Path(root, "configs", "model.json").read_text(encoding="utf-8"))

    def logits(batch: masks.Array) -> masks.Array:
        with torch.inference_mode():
            found: masks.Array = network(torch.from_numpy(batch).to(device)).cpu().numpy()
        return found

    paths = sorted(path for path in Path(images).iterdir() if path.is_file() and not path.name.startswith("."))
    return [written for path in paths for written in masks.predict(logits, path, facts, Path(out))]
