"""The four commands of docs/deploy.md, as they stand there."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import tiny

pytest.importorskip("nvflare", reason="the extra `flare` is not installed")

from federation.flare.real import free_port
from sammit.runs import read_state

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
DOC = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
SAMMIT = [sys.executable, "-c", "from sammit.cli import main; main()"]
OWN = {**os.environ, "PYTHONPATH": str(ROOT / "src")}


def commands(tmp_path: Path) -> list[list[str]]:
    """The first block of commands, its paths in a folder of the test."""
    block = next(block for block in re.findall(r"^```\n(.*?)^```$", DOC, re.M | re.S) if "deploy init" in block)
    found = [shlex.split(line.replace("/tmp/", f"{tmp_path}/")) for line in block.strip().splitlines()]
    assert all(words[0] == ".venv/bin/sammit" for words in found)
    return [words[1:] for words in found]


def ran(words: list[str], seconds: float = 300) -> str:
    answer = subprocess.run([*SAMMIT, *words], cwd=ROOT, env=OWN, capture_output=True, text=True, timeout=seconds)
    assert answer.returncode == 0, f"{shlex.join(words)}\n{answer.stdout}\n{answer.stderr}"
    return answer.stdout


def test_from_nothing_to_a_finished_run(tmp_path: Path) -> None:
    init, provision, up, submit = commands(tmp_path)
    ran(["data", "phantom", str(tmp_path / "sites")])
    ran([*init, "--port", str(free_port())])
    ran(provision)
    with (tmp_path / "up.log").open("w") as log:
        party = subprocess.Popen([*SAMMIT, *up], cwd=ROOT, env=OWN, stdout=log, stderr=log)
    try:
        said = ran([*submit, "--set", "training.local_steps=2", "--set", "training.threads=1"])
        status = json.loads(ran(["deploy", "status", "--kit", str(tmp_path / "fed"), "--json"]))
    finally:
        party.send_signal(signal.SIGINT)
        party.wait(30)
    out = tmp_path / "across"
    assert "round 1, loss" in said and f"report: {out / 'report.html'}" in said
    assert status["sites"] == ["aster", "birch"] and status["runs"][0]["state"] == "FINISHED:COMPLETED"
    assert len(tiny.rows(out)) == 2 and (out / "report.html").stat().st_size > 10_000
    summary = json.loads((out / "summary.json").read_text())
    assert summary["withheld"] == ["birch"] and set(summary["sites"]) == {"aster"}  # birch has four test patients
    assert read_state(out / "models" / "global.safetensors")[0]
    for site in ("aster", "birch"):
        (own,) = (tmp_path / "fed" / "homes" / site / "runs").iterdir()
        masks = tmp_path / "masks" / site
        ran(["predict", str(own), str(tmp_path / "sites" / site / "images"), "--site", site, "--out", str(masks)])
        assert list(masks.glob("*_cup.png"))
