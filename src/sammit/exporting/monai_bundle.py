"""A MONAI bundle: runs with `python -m monai.bundle run`, without Sammit, and makes the masks of `sammit predict`."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sammit.exporting.card import LIMITS, card
from sammit.exporting.copying import copy_scripts, licence
from sammit.exporting.facts import logits_shape, write_facts
from sammit.exporting.torchscript import write_torchscript
from sammit.exporting.trained import Trained
from sammit.files import write_atomically

SCHEMA = "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json"
HOW = """```
pip install monai torch numpy pillow nibabel fire
python -m monai.bundle run --config_file configs/inference.json --images FOLDER --output_dir MASKS
```

in this folder. A mask is written for each structure of each image. `configs/model.json` says how an image becomes the
network's input and logits become masks; `scripts/` does it."""
INFERENCE = {
    "imports": ["$import torch", "$import scripts"],
    "bundle_root": ".",
    "images": "$@bundle_root + '/images'",
    "output_dir": "$@bundle_root + '/masks'",
    "device": "$'cuda' if torch.cuda.is_available() else 'cpu'",
    "network_def": "$torch.jit.load(@bundle_root + '/models/model.ts', map_location=@device).eval()",
    "run": ["$scripts.predict(@network_def, @device, @bundle_root, @images, @output_dir)"],
}


def export(trained: Trained, out: Path) -> None:
    """Write configs, models/model.ts, scripts, docs and LICENSE."""
    write_torchscript(trained, out / "models" / "model.ts")
    _write_json(out / "configs" / "metadata.json", metadata(trained))
    _write_json(out / "configs" / "inference.json", INFERENCE)
    write_facts(out / "configs" / "model.json", trained)
    copy_scripts(out / "scripts", bundle="__init__.py", masks="masks.py", reading="reading.py")
    write_atomically(out / "docs" / "README.md", card(trained, HOW))
    write_atomically(out / "LICENSE", licence())


def metadata(trained: Trained) -> dict[str, Any]:
    """What MONAI's schema asks for."""
    names, size = trained.predictor.structures, trained.predictor.view.size
    patch = trained.predictor.view.kind == "tile"
    network, method = trained.run.experiment.model.name, trained.run.experiment.method.name
    return {
        "schema": SCHEMA,
        "version": "0.1.0",
        "changelog": {"0.1.0": "as the run left it"},
        "monai_version": version("monai"),
        "pytorch_version": version("torch").partition("+")[0],
        "numpy_version": version("numpy"),
        "required_packages_version": {name: version(name) for name in ("pillow", "nibabel")},
        "task": f"Segmentation of {', '.join(names)}",
        "description": f"{network}, trained with {method} across sites by Sammit; see docs/README.md.",
        "authors": "the sites that trained it, with Sammit",
        "copyright": "of the weights: the sites that trained them; of the scripts: the Sammit developers, Apache-2.0",
        "intended_use": LIMITS,
        "network_data_format": {
            "inputs": {"image": _tensor("magnitude", 3, [size, size], [0, 1], patch, ("red", "green", "blue"))},
            "outputs": {"pred": _tensor("logits", len(names), list(logits_shape(trained)[1:]), [], patch, names)},
        },
    }


def _tensor(
    form: str, channels: int, shape: list[int], values: list[int], patch: bool, names: tuple[str, ...]
) -> dict[str, Any]:
    return {
        "type": "image",
        "format": form,
        "num_channels": channels,
        "spatial_shape": shape,
        "dtype": "float32",
        "value_range": values,
        "is_patch_data": patch,
        "channel_def": {str(index): name for index, name in enumerate(names)},
    }


def _write_json(path: Path, value: dict[str, Any]) -> None:
    write_atomically(path, json.dumps(value, indent=2) + "\n")
