"""The README's commands and snippets, run as they stand."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """The README's fenced blocks of a language ("" for commands)."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)


def run(command: list[str], **environment: str) -> str:
    answer = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, **environment}, timeout=900
    )
    assert answer.returncode == 0, f"{shlex.join(command)}\n{answer.stdout}\n{answer.stderr}"
    return answer.stdout


@pytest.mark.slow
def test_commands_on_generated_sites(tmp_path: Path) -> None:
    block = next(block for block in blocks("") if "data phantom" in block)
    for line in block.strip().splitlines():
        program, *arguments = shlex.split(line.replace("/tmp/", f"{tmp_path}/"))
        assert program == ".venv/bin/sammit"
        run([sys.executable, "-c", "from sammit.cli import main; main()", *arguments])
    assert (tmp_path / "first" / "report.html").stat().st_size > 10_000
    masks = sorted((tmp_path / "masks").glob("*_cup.png"))
    assert masks and all(set(np.unique(np.asarray(Image.open(mask)))) <= {0, 255} for mask in masks)


@pytest.mark.slow
def test_the_demo(tmp_path: Path) -> None:
    """What `make demo` runs once the environment stands, with one seed."""
    out = tmp_path / "demo"
    found = run(
        [sys.executable, "-c", "from sammit.cli import main; main()", "demo", "--out", str(out), "--seeds", "1"]
    )
    assert all(f"| {name} " in found for name in ("local_only", "fedmsa", "pfedsam"))
    assert (out / "report.html").stat().st_size > 100_000
    assert all((out / name / "summary.json").is_file() for name in ("local_only", "fedmsa", "pfedsam"))


def test_snippets_add_a_method_an_adapter_and_a_layout(tmp_path: Path) -> None:
    package = tmp_path / "sammit"
    shutil.copytree(ROOT / "src" / "sammit", package)
    for snippet in blocks("python"):
        name = re.match(r"# src/sammit/(\S+)", snippet)
        assert name, "a snippet opens with the path of its file"
        (package / name[1]).write_text(snippet, encoding="utf-8")
    sites = flat_sites(tmp_path / "sites")
    recipe = tmp_path / "own.toml"
    recipe.write_text(
        'name = "own"\n[data]\nview = "whole"\nsize = 32\n[model]\nweights = "random"\nadapter = "shift"\n'
        '[method]\nname = "own_decoder"\n[training]\nrounds = 1\nlocal_steps = 1\nbatch_size = 2\n'
    )
    program = [sys.executable, "-c", "from sammit.cli import main; main()"]
    out = str(tmp_path / "run")
    found = run([*program, "run", str(recipe), "--data", str(sites), "--out", out], PYTHONPATH=str(tmp_path))
    assert "report:" in found
    assert (tmp_path / "run" / "models" / "sites" / "one.safetensors").is_file()


def flat_sites(root: Path) -> Path:
    """Two sites in the snippet's layout."""
    rng = np.random.default_rng(0)
    for site in ("one", "two"):
        (root / site).mkdir(parents=True)
        for index in range(4):
            pixels = rng.integers(0, 255, (40, 40, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(root / site / f"{index}.png")
            Image.fromarray((pixels[..., 0] > 128).astype(np.uint8)).save(root / site / f"{index}.mask.png")
    return root
