"""An export's folder: whole, or not there."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from sammit import plugins
from sammit.errors import UserError
from sammit.exporting.trained import Trained, load
from sammit.runs import refuse_used


def export_run(run: Path, form: str, out: Path, site: str = "") -> Trained:
    """Write a run's model in a format.

    Args:
        run: a finished run's folder.
        form: a format's name, such as "onnx" or "monai-bundle".
        out: an empty or missing folder.
        site: whose personal model; empty for the global one.

    Returns:
        What was exported.

    Raises:
        UserError: an unknown format, a used folder, a run that cannot be exported, or a missing library.
    """
    format_ = plugins.load("exports", form.replace("-", "_"))
    if out.is_dir() and any(out.iterdir()):
        raise UserError(f"{out}: is not empty; choose another --out")
    refuse_used(out)
    trained = load(run, site)
    draft = out.absolute().with_name(f".{out.absolute().name}.{os.getpid()}.part")
    draft.mkdir(parents=True)
    try:
        format_.export(trained, draft)
        if out.exists():
            out.rmdir()
        draft.rename(out)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return trained
