"""Whether what would be released works where it lands: built, checked, installed without a network, and used.

    python scripts/release_check.py [--work build/release]

Builds sdist and wheel, has twine look at both, looks into the wheel, gathers what it needs with pip under
constraints.txt, installs it from there into a fresh environment, and runs the demo, outside the tree. Takes some
minutes and a network; the environments and the gathered packages stay in the folder of the work.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from zipfile import ZipFile

ROOT = Path(__file__).resolve().parents[1]
CONSTRAINTS = ROOT / "constraints.txt"
OWN_CONSTRAINTS = ROOT / "constraints-release.txt"
TOOLS = ("build", "twine")
BESIDE_MODULES = (
    "sammit/models/pretrained/sam-tiny.safetensors",
    "sammit/models/pretrained/sam-tiny.json",
    "sammit/reporting/head.html",
    "sammit/recipes/pfedsam-phantom.toml",
    "sammit/studies/fedfms-table1-paper.csv",
    "sammit/py.typed",
)
"""A file of each kind that is no module; a wheel without it installs, and fails later."""

USES = (
    "--version",
    "list methods",
    "recipes .",
    "data phantom sites",
    "run recipes/pfedsam-phantom.toml --data sites --out first --set training.rounds=1 --set training.local_steps=2",
    "predict first sites/birch/images --site birch --out masks",
    "demo --out demo --seeds 1",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "release")
    work = parser.parse_args().work.resolve()
    shutil.rmtree(work, ignore_errors=True)
    wheel = built(work)
    look_into(wheel)
    use(installed(wheel, work))
    print("the release stands: wheel and sdist in", wheel.parent)


def built(work: Path) -> Path:
    """The wheel, made from the sdist in an environment of the build's own; twine has no complaint about either."""
    tools = environment(work / "tools")
    run(tools, "-m", "pip", "install", "--quiet", "--constraint", OWN_CONSTRAINTS, *TOOLS)
    run(tools, "-m", "build", "--outdir", work / "dist", ROOT)
    files = sorted((work / "dist").iterdir())
    run(tools, "-m", "twine", "check", "--strict", *files)
    (wheel,) = (path for path in files if path.suffix == ".whl")
    return wheel


def look_into(wheel: Path) -> None:
    """Every module of the tree is in it, and what lies beside modules; no test is."""
    with ZipFile(wheel) as archive:
        inside = set(archive.namelist())
    modules = {path.relative_to(ROOT / "src").as_posix() for path in (ROOT / "src").rglob("*.py")}
    recipes = {f"sammit/{path.relative_to(ROOT).as_posix()}" for path in (ROOT / "recipes").iterdir()}
    missing = sorted({*modules, *recipes, *BESIDE_MODULES} - inside)
    foreign = sorted(name for name in inside if not name.startswith(("sammit/", "sammit-")) or "/tests/" in name)
    if missing or foreign:
        sys.exit(f"{wheel.name}: lacks {missing}, and should not have {foreign}; mend pyproject.toml or setup.py")
    print(f"{wheel.name}: {len(inside)} files, {wheel.stat().st_size / 1e6:.1f} MB; nothing is missing")


def installed(wheel: Path, work: Path) -> Path:
    """The `sammit` of a fresh environment that was installed from files alone, as in a hospital."""
    python = environment(work / "clean")
    run(python, "-m", "pip", "download", "--quiet", "--dest", work / "wheels", "--constraint", CONSTRAINTS, wheel)
    run(python, "-m", "pip", "install", "--quiet", "--no-index", "--find-links", work / "wheels", "sammit")
    run(python, "-m", "pip", "check")
    return python.with_name("sammit")


def use(sammit: Path) -> None:
    """What a user does first, in a folder that has nothing of the tree."""
    with tempfile.TemporaryDirectory() as folder:
        for arguments in USES:
            run(sammit, *shlex.split(arguments), cwd=Path(folder))
        report = Path(folder, "demo", "report.html")
        print(f"demo/report.html: {report.stat().st_size / 1e3:.0f} kB")


def environment(folder: Path) -> Path:
    """The interpreter of a new environment."""
    venv.create(folder, with_pip=True)
    return folder / "bin" / "python"


def run(program: Path, *arguments: object, cwd: Path = ROOT) -> None:
    """Run it, and say so; a failure ends the check."""
    words = [str(program), *map(str, arguments)]
    print("$", shlex.join(words), flush=True)
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(words, cwd=cwd, env={**clean, "PIP_CONSTRAINT": str(CONSTRAINTS)}, check=False)
    if done.returncode:
        sys.exit(f"{shlex.join(words)}: ended with {done.returncode}; mend it, then `make release-check` again")


if __name__ == "__main__":
    main()
