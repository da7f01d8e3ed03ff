"""What a newcomer types and sees, from a clone to masks of their own PNGs, written down as it happens.

    python -m scripts.transcript --scans FOLDER --new FOLDER --site NAME [--out docs/transcript.md]

Everything happens in an empty folder: a clone of this repository's last commit, its environment made anew, and copies
of the two folders. The first has a folder for each site with images/ and masks/, the second new images of site NAME.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

ROOT = Path(__file__).resolve().parent.parent
REVISION = ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]
HEAD = """# From a clone to masks: a transcript

Eight commands, each with all that it printed, on a machine with {cores} cores and no GPU, Python {python}, at revision
{revision}. Beside the clone lie two folders of somebody's own: `scans`, with a folder for each site and in it `images/`
and `masks/`, and `new`, images of {site} that have no masks. A script wrote this page:
`python -m scripts.transcript --scans scans --new new --site {site}`.
"""


@dataclass(frozen=True)
class Step:
    """A command, why it is given, and the folder it is given in."""

    why: str
    command: str
    folder: str = "sammit"


def steps(site: str) -> list[Step]:
    """What a newcomer types."""
    sammit = ".venv/bin/sammit"
    recipe = "recipes/pfedsam-nuclei.toml"
    shorter = "--set training.rounds=6 --set method.final_local_epochs=5"
    return [
        Step("Fetch the program; ADDRESS is where you found it.", "git clone ADDRESS sammit", ""),
        Step("Install it, with what it needs, in a folder of its own.", "cd sammit && make .venv/core", ""),
        Step("What is there: a folder a site.", "ls ../scans ../scans/* ../new"),
        Step(
            "Does Sammit understand it? What can the model resolve?", f"{sammit} data check ../scans --recipe {recipe}"
        ),
        Step("What would be trained, and at what cost?", f"{sammit} run {recipe} --data ../scans --dry-run {shorter}"),
        Step(
            "Train, shorter than the recipe says.", f"{sammit} run {recipe} --data ../scans --out runs/first {shorter}"
        ),
        Step("Masks of the new images.", f"{sammit} predict runs/first ../new --site {site} --out masks --overlay"),
        Step("Here they are: white where the model sees a nucleus, and each image with its outline.", "ls -s masks"),
    ]


def said(step: Step, home: Path) -> tuple[str, float]:
    """What a command prints, of lines that are written over the last, without this machine's paths; and seconds.

    Raises:
        SystemExit: the command failed.
    """
    started = perf_counter()
    # What pip warns of is this machine's own settings.
    fixed = {"COLUMNS": "140", "TERM": "dumb", "PIP_QUIET": "1"}
    own = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | fixed
    command = step.command.replace("ADDRESS", str(ROOT))
    answer = subprocess.run(
        command,
        shell=True,
        cwd=home / step.folder,
        env=own,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    lines = [line.rsplit("\r", 1)[-1].rstrip() for line in answer.stdout.splitlines()]
    text = "\n".join(lines).strip().replace(f"{home}/", "")
    if answer.returncode:
        raise SystemExit(f"{step.command}: exit code {answer.returncode}\n{text}")
    return text, perf_counter() - started


def written(found: list[tuple[Step, str, float]], site: str, revision: str) -> str:
    """The page."""
    python = ".".join(map(str, sys.version_info[:2]))
    parts = [HEAD.format(cores=os.cpu_count(), python=python, revision=revision, site=site)]
    for number, (step, text, seconds) in enumerate(found, 1):
        shown = f"$ {step.command}\n{text}".rstrip()
        parts.append(f"{number}. {step.why} ({seconds:.0f} s)\n\n```text\n{shown}\n```\n")
    return "\n".join(parts)


def main() -> None:
    """Type it all and write it down."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scans", type=Path, required=True)
    parser.add_argument("--new", type=Path, required=True)
    parser.add_argument("--site", required=True)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "transcript.md")
    args = parser.parse_args()
    revision = subprocess.run(REVISION, capture_output=True, text=True, check=True).stdout.strip()
    found = []
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        shutil.copytree(args.scans, home / "scans")
        shutil.copytree(args.new, home / "new")
        for step in steps(args.site):
            print(f"$ {step.command}", flush=True)
            text, seconds = said(step, home)
            print(text, flush=True)
            found.append((step, text, seconds))
    args.out.write_text(written(found, args.site, revision), encoding="utf-8")


if __name__ == "__main__":
    main()
