"""Masks from images with an exported Sammit model; needs numpy, onnxruntime, and pillow (PNG, JPEG) or nibabel (NIfTI).

python predict_onnx.py IMAGE... --out DIR        what else the export holds lies beside this file
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import masks
import onnxruntime


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description="Masks from images with an exported Sammit model.")
    parser.add_argument("images", nargs="+", type=Path)
    parser.add_argument("--out", required=True, type=Path)
    given, here = parser.parse_args(), Path(__file__).parent
    session = onnxruntime.InferenceSession(here / "model.onnx")
    facts = json.loads((here / "model.json").read_text(encoding="utf-8"))
    for path in given.images:
        for written in masks.predict(lambda batch: session.run(None, {"image": batch})[0], path, facts, given.out):
            sys.stdout.write(f"{written}\n")


if __name__ == "__main__":
    main()
