"""safetensors: the tensors under Sammit's names, transformers' but for the prompt encoder, with a JSON beside them."""

from __future__ import annotations

from pathlib import Path

from sammit.exporting.card import card
from sammit.exporting.facts import write_facts
from sammit.exporting.trained import Trained
from sammit.files import write_atomically
from sammit.models.layouts import adapter_of
from sammit.runs import write_state

HOW = """```python
import json
from safetensors.torch import load_file
state = load_file("model.safetensors")      # names are those of transformers' SamModel, without its prompt encoder
facts = json.load(open("model.json"))       # facts["model"]: the sizes; facts["notes"]: what was merged and kept
```

These are tensors, not a program: Sammit's `models.build.build_model` makes the network that they belong to. Low-rank
factors are merged, so build it with the adapters that `facts["model"]["adapters"]` names."""


def export(trained: Trained, out: Path) -> None:
    """Write model.safetensors, model.json and CARD.md."""
    write_tensors(trained, out)
    write_atomically(out / "CARD.md", card(trained, HOW))


def write_tensors(trained: Trained, out: Path) -> None:
    """Write the tensors, and the facts with what the network is built from."""
    state = trained.model.state_dict()
    write_state(out / "model.safetensors", state, {"format": "sammit-export"})
    write_facts(out / "model.json", trained, model=_built_from(trained))


def _built_from(trained: Trained) -> dict[str, object]:
    config = trained.run.experiment.model
    names = adapters_of(trained)
    return {
        "name": config.name,
        "output_stride": config.output_stride,
        "head": config.head,
        "normalise": config.normalise,
        "no_mask": config.no_mask,
        "adapters": names,
        "options": {name: options for name, options in config.options.items() if name in names},
    }


def adapters_of(trained: Trained) -> list[str]:
    """Names of the adapters that are still modules of the model, sorted."""
    return sorted({name for tensor in trained.model.state_dict() if (name := adapter_of(tensor))})
