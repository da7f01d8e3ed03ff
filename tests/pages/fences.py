"""The fenced blocks of README.md and docs/, and the commands in them and between them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = ("README.md", *sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md")))

COMMANDS = ("", "bash", "sh", "shell", "console")
"""The languages whose blocks are commands; listings are `text`."""

FENCE = re.compile(r"^( *)```([\w-]*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`(?:\.venv/bin/)?(sammit [^`]+)`")
MAP = "src/sammit/\n"
"""How the README's map of the sources begins, the one listing that says no language."""


@dataclass(frozen=True)
class Block:
    """A fenced block; `named` is the path on a line of its own before it, "`PATH`:", if there is one."""

    page: str
    line: int
    language: str
    text: str
    named: str = ""


@dataclass(frozen=True)
class Command:
    """One command of a page, its continued lines joined and comments left out."""

    page: str
    line: int
    words: tuple[str, ...]

    @property
    def text(self) -> str:
        """The words with spaces between them."""
        return " ".join(self.words)

    @property
    def arguments(self) -> list[str] | None:
        """What is said to `sammit`; None for other programs."""
        program, *rest = self.words
        return rest if program in ("sammit", ".venv/bin/sammit") else None

    @property
    def synopsis(self) -> bool:
        """Whether it shows what may be said, rather than saying it."""
        return "[--" in self.text or "..." in self.text or bool(re.search(r"\w\|\w", self.text))

    def __str__(self) -> str:
        return f"{self.page}:{self.line}: {self.text}"


def blocks(page: str) -> list[Block]:
    """The blocks of a page."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return [
        Block(page, text.count("\n", 0, found.start()) + 1, found[2], _outdented(found), _named(text, found))
        for found in FENCE.finditer(text)
    ]


def _outdented(fence: re.Match[str]) -> str:
    return "".join(line.removeprefix(fence[1]) for line in fence[3].splitlines(keepends=True))


def _named(text: str, fence: re.Match[str]) -> str:
    before = re.search(r"^`([^`\n]+)`:\n\n\Z", text[: fence.start()], re.MULTILINE)
    return before[1] if before else ""


def commands(page: str) -> Iterator[Command]:
    """The commands of a page's blocks, in order."""
    for block in blocks(page):
        yield from commands_of(block)


def commands_of(block: Block) -> Iterator[Command]:
    """The commands of a block, if it has some.

    A line that ends in a backslash goes on, and so does one before an indented line.
    """
    if block.language not in COMMANDS or block.text.startswith(MAP):
        return
    text = re.sub(r" *(\\\n|\n(?=[ \t]))\s*", " ", block.text)
    for line in filter(str.strip, text.splitlines()):
        yield Command(block.page, block.line, tuple(shlex.split(line, comments=True)))


def inline(page: str) -> list[Command]:
    """What stands as `sammit ...` in running text."""
    text = FENCE.sub("", (ROOT / page).read_text(encoding="utf-8"))
    return [Command(page, 0, tuple(found.split())) for found in INLINE.findall(text)]
