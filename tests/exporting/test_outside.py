"""ONNX and the MONAI bundle run where Sammit cannot be imported, and draw the masks of `sammit predict`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from exporting.test_formats import IMAGES, assert_nothing_leaks, native
from sammit.exporting.folder import export_run
from sammit.predict import load_predictor, predict

pytestmark = pytest.mark.slow
ALONE = "import sys; sys.modules['sammit'] = sys.modules['transformers'] = None; "


def drawn(folder: Path) -> dict[str, np.ndarray]:
    """Masks by name."""
    return {path.name: np.asarray(Image.open(path)) for path in sorted(folder.iterdir())}


def alone(where: Path, code: str) -> None:
    """Run Python where Sammit cannot be imported."""
    done = subprocess.run([sys.executable, "-c", ALONE + code], cwd=where, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def assert_equal_masks(found: Path, wanted: Path) -> None:
    ours, theirs = drawn(found), drawn(wanted)
    assert ours.keys() == theirs.keys() and ours
    assert sum(int((ours[name] != theirs[name]).sum()) for name in ours) == 0


def test_onnx(runs: dict[str, Path], sites: Path, tmp_path: Path) -> None:
    """Logits to 1e-4 for any number of images; equal masks by the scripts beside the graph; no path in the graph."""
    import onnxruntime

    run, out = runs["pfedsam"], tmp_path / "out"
    export_run(run, "onnx", out, "aster")
    session, wanted = onnxruntime.InferenceSession(out / "model.onnx"), native(run, "aster")
    for images, logits in ((IMAGES, wanted), (IMAGES[:1], wanted[:1])):
        found = torch.from_numpy(session.run(None, {"image": images.numpy()})[0])
        assert (found - logits).abs().max() < 1e-4
    assert_nothing_leaks(out, sites)
    images = sites / "aster" / "images"
    predict(load_predictor(run, "aster"), [images], tmp_path / "native")
    names = [str(path) for path in sorted(images.iterdir())]
    alone(
        out,
        f"import runpy; sys.argv = ['predict_onnx.py', *{names}, '--out', {str(tmp_path / 'found')!r}]; "
        "sys.path.insert(0, '.'); runpy.run_path('predict_onnx.py', run_name='__main__')",
    )
    assert_equal_masks(tmp_path / "found", tmp_path / "native")


def test_monai_bundle(runs: dict[str, Path], sites: Path, tmp_path: Path) -> None:
    run, out, images = runs["pfedsam"], tmp_path / "out", sites / "aster" / "images"
    export_run(run, "monai-bundle", out, "aster")
    predict(load_predictor(run, "aster"), [images], tmp_path / "native")
    alone(
        out,
        "sys.path.insert(0, '.'); from monai.bundle import run; "
        f"run(config_file='configs/inference.json', images={str(images)!r}, output_dir={str(tmp_path / 'found')!r})",
    )
    assert_equal_masks(tmp_path / "found", tmp_path / "native")
