"""A folder for transformers: a `SamModel` where the run's model is one, else its tensors, and why."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from sammit.exporting.card import card
from sammit.exporting.facts import write_facts
from sammit.exporting.safetensors import adapters_of, write_tensors
from sammit.exporting.trained import Trained
from sammit.files import write_atomically
from sammit.models.build import transformers_config
from sammit.models.sam import PromptFreeSam
from sammit.models.sizes import Size, size_named

FRONT = """---
library_name: {library}
license: other
license_name: see-below
pipeline_tag: image-segmentation
tags:
- sammit
- segment-anything
- medical
---

"""
AS_SAM = """```python
from transformers import SamModel
model = SamModel.from_pretrained(FOLDER)
pixels = (images - torch.tensor({mean}).view(3, 1, 1)) / torch.tensor({std}).view(3, 1, 1)
first = model(pixel_values=pixels, multimask_output=False).pred_masks[:, 0]
others = model(pixel_values=pixels, multimask_output=True).pred_masks[:, 0]
logits = torch.cat([first, others], dim=1)[:, :{structures}]
```

`images` are (batch, 3, {size}, {size}) float32 in [0, 1]. Without prompts the logits are the run's; `model.json`
says how images become that and logits become masks. The prompt encoder, the head that rates masks and the heads of
unused mask tokens were never trained and have random values: prompts and `iou_scores` mean nothing here."""
AS_TENSORS = """**This is no `SamModel`**: {reasons}.
`model.safetensors` holds the tensors under Sammit's names, `model.json` what the network is built from (Sammit's
`models.build.build_model`). To run it without Sammit: `sammit export RUN --to onnx`."""


def export(trained: Trained, out: Path) -> None:
    """Write model.safetensors, README.md, model.json and, where transformers can load it, config.json."""
    reasons = obstacles(trained)
    if reasons:
        write_tensors(trained, out)
        how = AS_TENSORS.format(reasons="; ".join(reasons))
    else:
        how = _write_sam(trained, out)
    front = FRONT.format(library="sammit" if reasons else "transformers")
    write_atomically(out / "README.md", front + card(trained, how))


def obstacles(trained: Trained) -> list[str]:
    """Why transformers' `SamModel` cannot be this model; nothing where it can."""
    model = trained.model
    if type(model) is not PromptFreeSam:
        return ["the network is not the first Segment Anything"]
    found = []
    if model.detail is not None:
        found.append(f"its Detail head draws finer than SAM (model.output_stride = {model.patch // 4} has none)")
    if model.mixer is not None:
        found.append("it has FedFMS's mixing head")
    if kept := adapters_of(trained):
        found.append(f"no weight of SAM can express its adapters ({', '.join(kept)})")
    return found


def _write_sam(trained: Trained, out: Path) -> str:
    """Write the model as transformers does; returns how it is run."""
    from transformers import SamModel

    model, size = trained.model, size_named(trained.run.experiment.model.name)
    assert isinstance(model, PromptFreeSam) and isinstance(size, Size)  # or it would have obstacles
    side, structures = trained.predictor.view.size, len(trained.predictor.structures)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        whole = SamModel(transformers_config(size, side, structures))
    state = {_renamed(name): tensor for name, tensor in model.state_dict().items()}
    if not model.no_mask:
        state["prompt_encoder.no_mask_embed.weight"] = torch.zeros_like(state["prompt_encoder.no_mask_embed.weight"])
    unknown = whole.load_state_dict(state, strict=False).unexpected_keys
    assert not unknown, unknown
    whole.tie_weights()
    whole.save_pretrained(out)
    mean, std = (
        [round(float(value), 6) for value in getattr(model, name).flatten()] for name in ("pixel_mean", "pixel_std")
    )
    write_facts(out / "model.json", trained, pixel_mean=mean, pixel_std=std)
    return AS_SAM.format(mean=json.dumps(mean), std=json.dumps(std), structures=structures, size=side)


def _renamed(name: str) -> str:
    """Sammit's name of a tensor -> transformers'."""
    if name.startswith("positions."):
        return name.replace("positions.", "shared_image_embedding.")
    return f"prompt_encoder.{name}" if name.startswith("no_mask_embed.") else name
