"""The snippets of docs/python.md, run as they stand, one after another, and as mypy sees them."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import sammit

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"^```python\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.slow
def test_the_snippets(tmp_path: Path) -> None:
    """In one process, in an empty folder."""
    script = tmp_path / "page.py"
    script.write_text("\n".join(SNIPPETS), encoding="utf-8")
    answer = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.startswith("round 1, loss ") and "cup at birch: mean Dice 0." in answer.stdout
    assert (tmp_path / "runs" / "own" / "report.html").is_file()


@pytest.mark.slow
def test_the_snippets_are_typed(tmp_path: Path) -> None:
    """In strict mode, where hooks are written with their types."""
    page = tmp_path / "page.py"
    page.write_text("\n".join(SNIPPETS), encoding="utf-8")
    mypy = [sys.executable, "-m", "mypy", "--config-file", ROOT / "pyproject.toml", "--cache-dir", tmp_path, page]
    answer = subprocess.run(mypy, cwd=ROOT / "src", capture_output=True, text=True, timeout=600)
    assert answer.returncode == 0, answer.stdout


@pytest.mark.parametrize("name", ["run", "load", "check", "phantom"])
def test_the_page_gives_every_argument_and_default(name: str) -> None:
    shown = re.search(rf"^sammit\.{name}\((.*?)\) -> (\S+)$", PAGE, flags=re.MULTILINE | re.DOTALL)
    assert shown, f"the signature of {name}"
    real = inspect.signature(getattr(sammit, name))
    for argument in real.parameters.values():
        default = "" if argument.default is inspect.Parameter.empty else rf" = {re.escape(repr(argument.default))}"
        assert re.search(rf"\b{argument.name}: [^=]*?{default}(,|$)", " ".join(shown[1].split())), argument
    assert real.return_annotation == shown[2]
