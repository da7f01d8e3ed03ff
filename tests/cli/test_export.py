"""`sammit export` as a user meets it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cli.conftest import Sammit


def test_it_says_what_it_wrote_and_what_became_of_adapters(
    sammit: Sammit, runs: dict[str, Path], tmp_path: Path
) -> None:
    said = sammit("export", runs["pfedsam"], "--to", "safetensors", "--site", "aster", "--out", tmp_path / "out")
    assert said.code == 0, said
    assert "note: Adapters lora: low-rank factors merged" in said.out and "CARD.md" in said.out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--to", "onx"), "did you mean 'onnx'"),
        (("--to", "torchscript", "--site", "astre"), "did you mean 'aster'"),
    ],
)
def test_mistakes(
    mistake: Callable[..., str], runs: dict[str, Path], tmp_path: Path, arguments: tuple[str, ...], line: str
) -> None:
    assert line in mistake("export", runs["pfedsam"], "--out", tmp_path / "out", *arguments)
    assert not list(tmp_path.iterdir())


def test_a_used_folder(mistake: Callable[..., str], runs: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "kept").touch()
    assert "is not empty; choose another --out" in mistake(
        "export", runs["pfedsam"], "--to", "torchscript", "--out", tmp_path
    )
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
