"""What is exported: a run's model as one graph on the CPU in fp32, low-rank factors merged, and what is known of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from sammit.errors import UserError
from sammit.exporting.merging import merge
from sammit.models.adapters.base import Adapter
from sammit.models.precision import Computing
from sammit.models.sizes import Planned, size_named
from sammit.predict import Predictor, load_predictor
from sammit.runs import RunFolder


@dataclass(frozen=True)
class Trained:
    """A run's model, ready to be written in any format.

    Attributes:
        model: (B, 3, size, size) in [0, 1] -> (B, C, h, w) logits, as the run's model gives them.
        predictor: how images are read and seen; its model is this one.
        run: where the numbers of the card come from.
        site: whose personal model it is; empty for the global one.
        notes: sentences about what was merged, kept or rounded.
    """

    model: nn.Module
    predictor: Predictor
    run: RunFolder
    site: str
    notes: tuple[str, ...]

    @property
    def summary(self) -> dict[str, Any]:
        """`summary.json`; empty where a new site joined, which has scores of its own."""
        found: dict[str, Any] = self.run.read_json("summary.json") if self.run.finished else {}
        return found


def load(run: Path, site: str) -> Trained:
    """A run's model as it is exported.

    Args:
        run: a finished run's folder.
        site: whose personal model; empty for the global one.

    Raises:
        UserError: what `load_predictor` refuses, or nnU-Net.
    """
    folder = RunFolder.open(run)
    name = folder.experiment.model.name
    if isinstance(size_named(name), Planned):
        raise UserError(f"{run}: {name} runs in its own environment, with its own steps around it; export it with that")
    predictor = load_predictor(run, site)
    model = predictor.model.cpu().float().eval().requires_grad_(False)
    notes = merge(model)
    if isinstance(model, Computing) and model.in_bf16:
        model.in_bf16 = False
        notes += ("The run computes products in bf16; this export computes in fp32, from the same rounded weights.",)
    return Trained(model, predictor, folder, site if predictor.which == "personal" else "", notes)


class Graph(nn.Module):
    """A model as a tracer must see it: what adapters note of a pass (loads, balance) is forgotten."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, size, size) in [0, 1] -> (B, C, h, w) logits."""
        kept = [(module, dict(vars(module))) for module in self.model.modules() if isinstance(module, Adapter)]
        logits: Tensor = self.model(image)
        for module, then in kept:
            vars(module).clear()
            vars(module).update(then)
        return logits
