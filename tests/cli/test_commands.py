"""What the commands print and leave, and how quickly they start."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import tiny

Call = Callable[..., Any]

COMMANDS = [
    (), ("demo",), ("run",), ("study",), ("predict",), ("evaluate",), ("report",), ("list",), ("data",),
    ("data", "check"), ("data", "phantom"), ("weights",), ("weights", "list"), ("weights", "fetch"),
    ("weights", "check"),
]  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_help(sammit: Call, command: tuple[str, ...]) -> None:
    """Exit code 0, on stdout."""
    said = sammit(*command, "--help")
    assert said.code == 0 and "Usage: sammit" in said.out and said.err == ""


def test_starting_imports_nothing_heavy() -> None:
    """What takes seconds to import is imported where it is used."""
    program = """
import sys
from sammit.cli import main
for arguments in (["--help"], ["list", "methods"], ["list", "models"], ["weights", "list"]):
    sys.argv = ["sammit", *arguments]
    try:
        main()
    except SystemExit:
        pass
heavy = {"torch", "transformers", "monai", "scipy", "matplotlib", "nibabel", "numpy", "PIL"} & set(sys.modules)
print("HEAVY", sorted(heavy))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "HEAVY []", done.stdout + done.stderr


@pytest.mark.parametrize("kind", ["methods", "aggregators", "models", "datasets", "adapters"])
def test_lists_for_scripts(sammit: Call, kind: str) -> None:
    """A name and a summary each; methods also say what travels and what stays, rules whether they are exact."""
    rows = json.loads(sammit("list", kind, "--json").out)
    told = {"methods": {"paper", "travels", "stays"}, "aggregators": {"paper", "travels", "stays", "exact"}}
    wanted = {"name", "summary"} | told.get(kind, set())
    assert rows and all(wanted <= set(row) and all(row[key] for key in wanted) for row in rows)
    plain = sammit("list", kind).out
    assert all(row["name"] in plain for row in rows)


def test_a_dry_run_starts_nothing_and_writes_nothing(
    tmp_path: Path, sites: Path, sammit: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It prints the experiment, the sites, and what the run would cost."""
    import tomllib

    recipe = tiny.recipe(tmp_path / "recipe.toml", sites, "pfedsam")
    monkeypatch.chdir(tmp_path)
    said = sammit("run", recipe, "--dry-run", "--set", "training.rounds=7")
    assert said.code == 0 and said.err == ""
    head = said.out.partition("site aster:")[0]
    assert tomllib.loads(head)["training"]["rounds"] == 7
    for word in ("site birch:", "parameters", "bytes a site and round", "merged by naive", "training time", "memory"):
        assert word in said.out
    assert list(tmp_path.iterdir()) == [recipe]


def test_a_dry_run_lists_what_travels_beside_the_weights(tmp_path: Path, sites: Path, sammit: Call) -> None:
    """Once and each round, up and down, with purpose, and where a site says no."""
    said = sammit("run", tiny.recipe(tmp_path / "recipe.toml", sites, "feddg_elcfs"), "--dry-run").out
    listing = said.partition("beside the shared tensors travel")[2].splitlines()
    assert "site.toml" in listing[0]
    whens = [line.strip() for line in listing if line.startswith("  ") and not line.startswith("    ")]
    assert whens == [
        "once, from each site, before the model is built",
        "each round, to each site",
        "each round, from each site",
    ]
    assert "    amplitude.bank (4 x 3 x 3 x 3 float32, 432 bytes): low-frequency amplitudes" in said
    assert "    samples (a number): how many" in said and "site aster tells 108 numbers of its data" in said


def test_run_report_and_resume(tmp_path: Path, sites: Path, sammit: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line a round, a table, a report; the default folder; a finished run is told again."""
    recipe = tiny.recipe(tmp_path / "recipe.toml", "nowhere", data={"size": 16})
    monkeypatch.chdir(tmp_path)
    said = sammit("run", recipe, "--data", sites)
    assert said.code == 0 and said.err == "", said
    assert "round 1, loss" in said.out and "round 2, loss" in said.out and "| aster" in said.out
    out = tmp_path / "runs" / "tiny-seed-0"
    report = out / "report.html"
    assert report.stat().st_size > 10_000
    report.unlink()
    again = sammit("run", recipe, "--data", sites, "--resume")
    assert again.code == 0 and report.is_file()
    assert sammit("report", out, "--out", tmp_path / "other.html").code == 0
    assert (tmp_path / "other.html").is_file()


def test_data_check_and_phantom(tmp_path: Path, sites: Path, sammit: Call) -> None:
    """Sites as they are, in words and as JSON."""
    said = sammit("data", "check", sites)
    assert said.code == 0 and "site aster (folder)" in said.out and "Dice ceiling" in said.out
    assert "labels full: 100.0% of the pixels of a labelled image" in said.out
    reports = json.loads(sammit("data", "check", sites, "--json").out)
    assert [report["site"] for report in reports] == list(tiny.LOOKS)
    assert sammit("data", "phantom", tmp_path / "made").code == 0
    assert (tmp_path / "made" / "dataset.toml").is_file()


def test_stopping_a_run_says_how_to_go_on(
    tmp_path: Path, sites: Path, sammit: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line, exit code 130."""
    from sammit.federation import local

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(local, "run", stop)
    said = sammit("run", tiny.recipe(tmp_path / "recipe.toml", sites), "--out", tmp_path / "out")
    assert said.code == 130 and "--resume" in said.err and len(said.err.splitlines()) == 1


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 24 MB of its own; the test is skipped where none may be mounted."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "none", place], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no small disk can be mounted here: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", "-l", place], check=True)  # lazily: a traceback may hold a mapped file


def fill(path: Path, spare: int) -> None:
    """Leave `spare` bytes free on the disk of `path`."""
    disk = os.statvfs(path.parent)
    path.write_bytes(bytes(max(0, disk.f_bavail * disk.f_frsize - spare)))


def test_a_disk_without_room_for_the_run(tmp_path: Path, sites: Path, small_disk: Path, mistake: Call) -> None:
    """Known before the first round; nothing is left."""
    fill(small_disk / "ballast", 1_000_000)
    said = mistake("run", tiny.recipe(tmp_path / "recipe.toml", sites), "--out", small_disk / "out")
    assert "free some space or choose another --out" in said
    assert [path.name for path in small_disk.iterdir()] == ["ballast"]


@pytest.mark.parametrize(
    "spare", [0, *(pytest.param(some, marks=pytest.mark.slow) for some in (100_000, 900_000, 1_800_000))]
)
def test_a_disk_that_fills_up_on_the_way(
    tmp_path: Path, sites: Path, small_disk: Path, sammit: Call, monkeypatch: pytest.MonkeyPatch, spare: int
) -> None:
    """One line; only whole files; once there is space, --resume ends as if nothing had been."""
    from sammit.federation import local

    what = tiny.experiment(sites, "pfedsam", data={"size": 16})
    recipe = tiny.recipe(tmp_path / "recipe.toml", sites, "pfedsam", data={"size": 16})
    ballast, out, run = small_disk / "ballast", small_disk / "out", local.run

    def filling(experiment: Any, folder: Path, tell: Any, resume: bool) -> Any:
        def full(row: dict[str, Any]) -> None:
            tell(row)
            if not ballast.exists():
                fill(ballast, spare)

        return run(experiment, folder, full, resume)

    monkeypatch.setattr(local, "run", filling)
    said = sammit("run", recipe, "--out", out)
    assert said.code == 2 and said.err.startswith("error: the disk is full while writing"), said
    assert len(said.err.splitlines()) == 1
    assert not [path for path in out.rglob("*") if ".part" in path.name]
    assert not (out / "summary.json").exists()
    monkeypatch.setattr(local, "run", run)
    ballast.unlink()
    assert sammit("run", recipe, "--out", out, "--resume").code == 0
    left = tiny.contents(out)
    del left["report.html"]
    assert left == tiny.contents(tiny.run(what, tmp_path / "whole"))
