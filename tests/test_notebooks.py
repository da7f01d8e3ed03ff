"""The notebooks, run from top to bottom in an empty folder; as stored they hold what a person wrote, and no more."""

from __future__ import annotations

import base64
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
names = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)

PICTURES = {"first-run": 4, "your-own-data": 1, "your-own-method": 1}
"""How many each shows."""


def read(path: Path) -> Any:
    """A notebook's JSON."""
    return json.loads(path.read_text(encoding="utf-8"))


def test_there_are_three() -> None:
    assert [path.stem for path in NOTEBOOKS] == sorted(PICTURES)


@names
def test_nothing_of_an_execution_is_stored(path: Path) -> None:
    """No outputs, counts or kernels of somebody's machine, and no path of it: a change shows as what it is."""
    notebook = read(path)
    for cell in notebook["cells"]:
        assert cell["metadata"] == {} and cell["source"]
        assert cell.get("outputs", []) == [] and cell.get("execution_count") is None
    assert set(notebook["metadata"]) == {"kernelspec", "language_info"}
    assert notebook["metadata"]["language_info"] == {"name": "python"}
    assert not re.search(r"(?<![\w.])(/home|/root|/tmp|/Users|/work|/mnt|[A-Z]:\\)", path.read_text(encoding="utf-8"))


@names
def test_links_lead_somewhere(path: Path) -> None:
    text = "\n".join("".join(cell["source"]) for cell in read(path)["cells"] if cell["cell_type"] == "markdown")
    for target in re.findall(r"\]\(([^)#]+)", text):
        assert (path.parent / target).exists(), target


@pytest.mark.slow
@names
def test_it_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To its end without a warning, with its pictures, which land in SAMMIT_NOTEBOOK_PICTURES where that is set."""
    nbformat = pytest.importorskip("nbformat", reason='needs the extra "notebooks"')
    client = pytest.importorskip("nbclient", reason='needs the extra "notebooks"')
    pytest.importorskip("ipykernel", reason='needs the extra "notebooks"')
    for variable in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "MPLCONFIGDIR"):
        monkeypatch.setenv(variable, str(tmp_path / variable))
    home = tmp_path / "notebooks"
    home.mkdir()
    notebook = nbformat.read(path, as_version=4)
    where = {"metadata": {"path": home}}
    client.NotebookClient(notebook, timeout=600, startup_timeout=300, resources=where).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert not [output["text"] for output in outputs if output.get("name") == "stderr"]
    pictures = [output["data"]["image/png"] for output in outputs if "image/png" in output.get("data", {})]
    assert len(pictures) == PICTURES[path.stem]
    if folder := os.environ.get("SAMMIT_NOTEBOOK_PICTURES"):
        for place, picture in enumerate(pictures):
            (Path(folder) / f"{path.stem}-{place}.png").write_bytes(base64.b64decode(picture))
