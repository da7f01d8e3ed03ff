"""TorchScript: one file that torch loads without Sammit, for C++ hosts and MONAI.

`torch.jit` is deprecated in favour of `torch.export`, whose programs MONAI's bundles do not load yet.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from zipfile import ZIP_STORED, ZipFile

import torch

from sammit.exporting.card import card
from sammit.exporting.facts import example, write_facts
from sammit.exporting.trained import Graph, Trained
from sammit.files import write_atomically

HOW = """`torch.jit.load("model.ts")` takes (batch, 3, size, size) float32 in [0, 1] and gives logits; `model.json` says
how an image becomes that and how logits become masks (Sammit's docs/export.md explains each key)."""


def export(trained: Trained, out: Path) -> None:
    """Write model.ts, model.json and CARD.md."""
    write_torchscript(trained, out / "model.ts")
    write_facts(out / "model.json", trained)
    write_atomically(out / "CARD.md", card(trained, HOW))


def write_torchscript(trained: Trained, path: Path) -> None:
    """Trace the model and write it, without the paths of source files that torch notes in the archive."""
    images = example(trained, 2)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", torch.jit._trace.TracerWarning)  # of sides, which are constants here
        traced = torch.jit.trace(  # type: ignore[no-untyped-call]
            Graph(trained.model), images, check_trace=False
        )
        write_atomically(path, lambda draft: _save(traced, draft))


def _save(traced: torch.jit.ScriptModule, path: Path) -> None:
    torch.jit.save(traced, path)
    with ZipFile(path) as archive:
        entries = {entry: archive.read(entry) for entry in archive.namelist() if not entry.endswith(".debug_pkl")}
    with ZipFile(path, "w", ZIP_STORED) as archive:
        for entry, content in entries.items():
            archive.writestr(entry, content)
