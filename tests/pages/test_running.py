"""Every page from top to bottom, as a reader would: its commands and snippets, small, on generated sites."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest

import tiny
from pages.fences import PAGES, ROOT, Block, Command, blocks, commands, commands_of
from pages.running import ELSEWHERE, reason

pytestmark = pytest.mark.slow

SAMMIT = [sys.executable, "-c", "from sammit.cli import main; main()"]
MODULE = re.compile(r"# src/sammit/(\S+)")
QUICK = ("--set", "training.rounds=1", "--set", "training.local_steps=1", "--set", "training.threads=1")
RUNNABLE = [
    page
    for page in PAGES
    if any(not reason(command) for command in commands(page))
    or (page not in ELSEWHERE and any(block.language == "python" for block in blocks(page)))
]


@pytest.fixture(scope="module")
def stands_for(tmp_path_factory: pytest.TempPathFactory, sites: Path) -> dict[str, str]:
    """What the words in capitals are here; RUN is one that a site, NEW, took no part in."""
    folder = tmp_path_factory.mktemp("stand-ins")
    run = tiny.run(tiny.experiment(sites, "pfedsam", evaluation={"unseen": ["birch"]}), folder / "run")
    recipe = tiny.recipe(folder / "recipe.toml", "", "pfedsam")
    image = next((sites / "aster" / "images").iterdir())
    masks, volume = folder / "masks", folder / "volume.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.arange(32 * 32 * 3, dtype=np.int16).reshape(32, 32, 3), np.eye(4)), volume)
    shutil.copytree(sites / "aster" / "masks", masks / "aster")
    shutil.copytree(sites / "birch" / "masks", masks / "birch")
    paths = {"ROOT": sites, "RUN": run, "RECIPE": recipe, "IMAGE": image, "VOLUME": volume}
    paths |= {"MASKS": masks, "OUT": sites}
    return {**{word: str(path) for word, path in paths.items()}, "SITE": "aster", "NEW": "birch"}


class Reader:
    """Someone who does what a page says, in a folder of their own."""

    def __init__(self, folder: Path, stands_for: dict[str, str]) -> None:
        self.folder, self.stands_for = folder, stands_for
        shutil.copytree(ROOT / "src" / "sammit", folder / "package" / "sammit")
        for name in ("recipes", "studies"):
            shutil.copytree(ROOT / name, folder / name)

    def does(self, block: Block) -> None:
        """What one block says."""
        module = MODULE.match(block.text)
        if block.named:
            self.writes(Path(self.here(block.named)), block.text)
        elif block.language == "python" and module:
            self.writes(self.folder / "package" / "sammit" / module[1], block.text)
            name = module[1].removesuffix(".py").replace("/", ".")
            self.starts([sys.executable, "-c", f"import sammit.{name}"], f"{block.page}:{block.line}")
        elif block.language == "python" and block.page not in ELSEWHERE:
            self.starts([sys.executable, "-c", self.here(block.text)], f"{block.page}:{block.line}")
        for command in commands_of(block):
            self.says(command)

    def says(self, command: Command) -> None:
        """One command, unless the table says why not."""
        if reason(command):
            return
        words = [self.stands_for.get(word, self.here(word)) for word in command.arguments or []]
        small = QUICK if words[0] in ("run", "study") else ()
        self.starts([*SAMMIT, *words, *small], str(command))

    def here(self, text: str) -> str:
        """Paths under /tmp, in this folder."""
        return text.replace("/tmp/", f"{self.folder}/tmp/")

    def writes(self, path: Path, text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.here(text), encoding="utf-8")

    def starts(self, command: list[str], what: str) -> None:
        environment = {**os.environ, "PYTHONPATH": str(self.folder / "package")}
        done = subprocess.run(
            command, cwd=self.folder, capture_output=True, text=True, timeout=900, env=environment, check=False
        )
        assert done.returncode == 0, f"{what}\n{' '.join(command[3:])}\n{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize("page", RUNNABLE)
def test_the_page_does_what_it_says(page: str, stands_for: dict[str, str], tmp_path: Path) -> None:
    reader = Reader(tmp_path, stands_for)
    for block in blocks(page):
        reader.does(block)
