"""ONNX: a graph for onnxruntime and others, with scripts that make the masks of `sammit predict` without Sammit."""

from __future__ import annotations

import logging
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from sammit.errors import UserError
from sammit.exporting.card import card
from sammit.exporting.copying import copy_scripts
from sammit.exporting.facts import example, write_facts
from sammit.exporting.trained import Graph, Trained
from sammit.files import write_atomically

OPSET = 18
LARGEST = 2 * 1024**3  # bytes of a protobuf message, which an ONNX file is
HOW = """```
pip install onnxruntime numpy pillow nibabel
python predict_onnx.py IMAGE... --out DIR
```

writes a mask for each structure. `model.json` says how an image becomes the graph's input and logits become masks."""


def export(trained: Trained, out: Path) -> None:
    """Write model.onnx, model.json, the scripts that use them, and CARD.md."""
    if not (find_spec("onnx") and find_spec("onnxscript")):
        raise UserError('--to onnx: needs the packages onnx and onnxscript; install them: pip install "sammit[export]"')
    size = sum(tensor.nbytes for tensor in trained.model.state_dict().values())
    if size > 0.95 * LARGEST:
        raise UserError(f"--to onnx: {size / 1e9:.1f} GB are more than an ONNX file holds; use --to torchscript")
    write_onnx(trained, out / "model.onnx")
    write_facts(out / "model.json", trained, opset=OPSET)
    copy_scripts(out, predict_onnx="predict_onnx.py", masks="masks.py", reading="reading.py")
    write_atomically(out / "CARD.md", card(trained, HOW))


def write_onnx(trained: Trained, path: Path) -> None:
    """Write the graph: image (batch, 3, size, size) in, logits out, no path of a source file in it."""
    import onnx

    graph, batch = Graph(trained.model).eval(), torch.export.Dim("batch")
    for library in ("torch.onnx", "onnxscript", "onnx_ir"):  # of torchvision, missed by none, and of nodes not folded
        logging.getLogger(library).setLevel(logging.ERROR)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of its own libraries; what is written is checked below
        made = torch.onnx.export(
            graph,
            (example(trained, 2),),
            dynamo=True,
            opset_version=OPSET,
            dynamic_shapes=({0: batch},),
            input_names=["image"],
            output_names=["logits"],
            verbose=False,
        )
    assert made is not None  # a program, as no file was named
    plain = made.model_proto
    _without_traces(plain)
    onnx.checker.check_model(plain)
    write_atomically(path, plain.SerializeToString())


def _without_traces(model: Any) -> None:
    """Take out the lines of source that the exporter notes at each node."""
    for part in (model, model.graph, *model.graph.node, *model.graph.value_info, *model.graph.initializer):
        part.doc_string = ""
        del part.metadata_props[:]
    assert not model.functions  # all are inlined
