"""What is done with each command of the pages: it is run, or it stands here with the reason why not."""

from __future__ import annotations

from pages.fences import Command

WORDS = ("ROOT", "RUN", "RECIPE", "SITE", "NEW", "IMAGE", "VOLUME", "MASKS", "OUT")
"""What stands for folders, files and sites in commands that are run."""

ENGINE = "takes real servers and sites: tests/federation/flare/test_rehearsal.py and test_doors.py run what it runs"
BENCHMARKS = "needs the published benchmarks, and days; tests/study/test_studies.py plans its cells"
FETCHES = "fetches hundreds of megabytes; tests/models/test_download.py does so from this machine"
OTHERS = "installs or runs what is not Sammit; tests/exporting/test_outside.py runs the scripts beside the model"
RELEASE = "builds and installs a wheel: `make release-check` does so"
REAL = "real images and minutes to hours; it says where the numbers came from"

NOT_RUN = {
    ("README.md", "make demo"): "tests/test_readme.py runs it with one seed",
    ("README.md", "sammit data phantom"): "tests/test_readme.py runs this block",
    ("README.md", "sammit data check /tmp"): "tests/test_readme.py runs this block",
    ("README.md", "sammit run recipes/pfedsam-phantom.toml"): "tests/test_readme.py runs this block",
    ("README.md", "sammit predict /tmp"): "tests/test_readme.py runs this block",
    ("README.md", "sammit evaluate /tmp"): "tests/test_readme.py runs this block",
    ("README.md", "sammit list methods"): "tests/test_readme.py runs this block",
    ("README.md", "sammit deploy"): ENGINE,
    ("README.md", "sammit site"): ENGINE,
    ("README.md", "sammit study studies/fedfms-table1.toml"): BENCHMARKS,
    ("docs/backbones.md", "sammit weights fetch"): FETCHES,
    (
        "docs/backbones.md",
        "sammit run recipes/fedmsa-sam2-nuclei.toml",
    ): "needs what was fetched before it",
    ("docs/deploy.md", "sammit deploy"): ENGINE,
    ("docs/deploy.md", "sammit site"): ENGINE,
    ("docs/export.md", "python3 -m venv"): OTHERS,
    ("docs/export.md", "/tmp/onnxenv/"): OTHERS,
    ("docs/export.md", "/tmp/monaienv/"): OTHERS,
    ("docs/export.md", "cd bundle"): OTHERS,
    ("docs/fedfms.md", "sammit study"): BENCHMARKS,
    ("docs/how-to/install.md", "python3 -m"): RELEASE,
    ("docs/how-to/install.md", ".venv/bin/pip"): RELEASE,
    ("docs/how-to/install.md", "sammit-venv/"): RELEASE,
    ("docs/how-to/reproduce-fedfms.md", "sammit data prepare"): "needs raw copies; tests/data/prepare makes small ones",
    ("docs/how-to/reproduce-fedfms.md", "sammit data check"): "needs what was prepared before it",
    ("docs/how-to/reproduce-fedfms.md", "sammit weights fetch"): FETCHES,
    ("docs/how-to/reproduce-fedfms.md", "sammit study studies/fedfms-table1.toml --data PREPARED"): BENCHMARKS,
    (
        "docs/how-to/reproduce-fedfms.md",
        "sammit study studies/fedfms-table2.toml",
    ): "minutes for a step of ViT-B",
    ("docs/quickstart.md", "make demo"): "tests/test_readme.py runs it with one seed",
    ("docs/reports.md", ".venv/bin/python -m scripts.screenshots"): "needs a browser; tests/reporting drives one",
    ("docs/results.md", ""): REAL,
    ("docs/watching.md", ".venv/bin/pip"): OTHERS,
    ("docs/watching.md", "sammit run"): "needs the extra `track`; tests/tracking/test_real.py reads back what it sends",
    ("docs/tutorials/a-table.md", "sammit study /tmp/table/study.toml --data /tmp/table/sites --out /tmp/table/out"): (
        "24 cells; the command after it runs two of them, and tests/study/test_study.py a whole small study"
    ),
}
"""(page, how the command begins) -> why it is not run here. Where one begins as two do, both are meant."""


ELSEWHERE = {"docs/python.md": "tests/test_python_docs.py runs its snippets one after another, and has them typed"}
"""Pages whose Python is run by a test of its own."""


def reason(command: Command) -> str:
    """Why a command is not run; "" where it is."""
    if command.synopsis:
        return "shows what may be said"
    text = command.text.removeprefix(".venv/bin/") if command.arguments is not None else command.text
    for (page, start), why in NOT_RUN.items():
        if page == command.page and text.startswith(start):
            return why
    return ""
