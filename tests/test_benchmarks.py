"""Every benchmark runs, small, and ends with a line that a script can read. None of them is timed here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TINY = ("--model", "sam-tiny", "--size", "128")
SMALL = {
    "aggregate": ("--updates", "2", "--repeats", "1"),
    "feeding": (*TINY, "--steps", "2"),
    "late": (*TINY, "--steps", "2"),
    "precision": ("--size", "64", "--images", "1"),
    "predict": (*TINY, "--slices", "1", "--repeat", "1"),
    "sites": (*TINY, "--sites", "2"),
    "step": (*TINY, "--repeat", "1"),
    "traffic": (),
    "flare": ("--rounds", "1"),
}
WANTED = {"name", "ours", "reference", "ratio", "unit", "machine"}


def test_none_is_missing() -> None:
    scripts = [path for path in (ROOT / "benchmarks").glob("*.py") if "__main__" in path.read_text()]
    assert {path.stem for path in scripts} == set(SMALL)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.flare if name == "flare" else ()) for name in SMALL]
)
def test_it_runs(name: str) -> None:
    if name == "flare":
        pytest.importorskip("nvflare")
    command = [sys.executable, "-m", f"benchmarks.{name}", *SMALL[name], "--json"]
    paths = os.pathsep.join(map(str, (ROOT / "src", ROOT)))
    found = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=600, env={**os.environ, "PYTHONPATH": paths}
    )
    assert found.returncode == 0, found.stderr[-2000:]
    said = json.loads(found.stdout.splitlines()[-1])
    assert set(said) >= WANTED
    assert said["ours"] > 0 and said["reference"] > 0
