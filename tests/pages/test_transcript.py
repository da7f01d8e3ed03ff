"""The transcript shows the commands that its script types now, fewer than ten, and the program still takes them."""

from __future__ import annotations

import re

import pytest
from scripts.transcript import steps

from pages.fences import ROOT, Command
from pages.test_commands import taken

PAGE = "docs/transcript.md"


@pytest.fixture(scope="module")
def page() -> str:
    return (ROOT / PAGE).read_text(encoding="utf-8")


def test_it_is_up_to_date(page: str) -> None:
    found = re.search(r"--site (\w+)`", page)
    assert found
    typed = re.findall(r"^\$ (.*)$", page, flags=re.MULTILINE)
    assert typed == [step.command for step in steps(found[1])]
    assert len(typed) < 10


def test_each_command_shows_what_it_printed(page: str) -> None:
    """Two of them print nothing but what git and make say."""
    for block in re.findall(r"```text\n(.*?)```", page, flags=re.DOTALL):
        assert len(block.splitlines()) > 1, block


def test_the_program_takes_them(page: str) -> None:
    for line in re.findall(r"^\$ \.venv/bin/(sammit .*)$", page, flags=re.MULTILINE):
        command = Command(PAGE, 0, tuple(line.split()))
        taken(command, command.arguments or [])


def test_nothing_of_the_machine_is_in_it(page: str) -> None:
    assert not re.search(r"/(home|root|tmp|work|Users)/", page)
