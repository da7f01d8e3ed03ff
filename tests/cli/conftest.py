"""The `sammit` command in this process: quick, for torch is imported once."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

import pytest


@dataclass(frozen=True)
class Said:
    """How a command ended and what it printed."""

    code: int
    out: str
    err: str


Sammit = Callable[..., Said]


@pytest.fixture
def sammit(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Sammit:
    """Runs `sammit ARGUMENTS...` as the installed command does."""

    from sammit.cli import main

    def call(*arguments: object) -> Said:
        monkeypatch.setattr(sys, "argv", ["sammit", *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", "200")
        capfd.readouterr()
        with pytest.raises(SystemExit) as left:
            main()
        said = capfd.readouterr()
        return Said(int(left.value.code or 0), said.out, said.err)

    return call


@pytest.fixture
def mistake(sammit: Sammit) -> Callable[..., str]:
    """Runs a command that must end with one line and exit code 2; returns the line without "error: "."""

    def call(*arguments: object) -> str:
        said = sammit(*arguments)
        lines = said.err.splitlines()
        assert said.code == 2, said
        assert len(lines) == 1 and lines[0].startswith("error: "), said.err
        assert said.out == "", said.out
        return lines[0].removeprefix("error: ")

    return call
