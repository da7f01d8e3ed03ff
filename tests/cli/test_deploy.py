"""`sammit deploy` and `sammit site`: what they make, and one line where something is missing."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

import tiny
from cli.conftest import Sammit
from sammit.federation.premises import load_premises

Mistake = Callable[..., str]


@pytest.fixture
def kit(tmp_path: Path, sites: Path) -> Path:
    """A site's kit, as far as the site's own commands need one."""
    (tmp_path / "kits" / "aster" / "startup").mkdir(parents=True)
    shutil.copytree(sites / "aster", tmp_path / "images")
    shutil.copy(sites / "dataset.toml", tmp_path / "images")
    return tmp_path / "kits" / "aster"


def test_a_kit_is_set_up_once(sammit: Sammit, mistake: Mistake, kit: Path, tmp_path: Path) -> None:
    said = sammit("site", "init", kit, "--data", tmp_path / "images", "--home", tmp_path / "home")
    assert said.code == 0 and "look through it; next: sammit site check" in said.out
    premises = load_premises(kit)
    assert (premises.data, premises.home) == (str(tmp_path / "images"), str(tmp_path / "home"))
    assert premises.policy.min_patients == 5 and not premises.noise.on
    assert (tmp_path / "home").stat().st_mode & 0o077 == 0
    assert "is there already; edit it" in mistake("site", "init", kit, "--data", tmp_path / "images")


def test_a_preview_writes_down_what_would_leave(sammit: Sammit, kit: Path, tmp_path: Path) -> None:
    sammit("site", "init", kit, "--data", tmp_path / "images", "--home", tmp_path / "home")
    recipe = tiny.recipe(tmp_path / "recipe.toml", "anywhere", "pfedsam")
    said = sammit("site", "preview", recipe, kit, "--out", tmp_path / "shown")
    assert said.code == 0 and "03-train.safetensors (Update, " in said.out
    assert " float32, " in said.out and "samples = " in said.out and "mixture" not in said.out
    assert {path.name for path in (tmp_path / "shown").iterdir()} >= {"egress.json", "03-train.safetensors"}
    assert not list((tmp_path / "home").glob("runs/*"))


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("site", "init", "nowhere", "--data", "."), "nowhere: there is no such folder; give KIT a folder that exists"),
        (
            ("site", "preview", "recipe.toml", "kit", "--out", "o"),
            "make it with `sammit site init",
        ),
        (("site", "audit", "kit"), "site.toml: is missing; make it with `sammit site init kit`"),
    ],
)
def test_what_is_missing_is_named(
    mistake: Mistake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], reason: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "kit").mkdir()
    tiny.recipe(tmp_path / "recipe.toml", "anywhere")
    assert reason in mistake(*words)
    assert not (tmp_path / "o").exists()


def test_a_site_of_several_must_be_named(mistake: Mistake, tmp_path: Path, sites: Path) -> None:
    """The kit's name is the site's, and none of the folders has it."""
    kit = tmp_path / "north"
    kit.mkdir()
    (kit / "site.toml").write_text(f'data = "{sites}"\nhome = "{tmp_path / "home"}"\n')
    recipe = tiny.recipe(tmp_path / "recipe.toml", "anywhere")
    said = mistake("site", "preview", recipe, kit, "--out", tmp_path / "shown")
    assert "site 'north' does not take part: could not answer (invitation: UserError)" in said


@pytest.mark.skipif(find_spec("nvflare") is not None, reason="the extra `flare` is installed")
@pytest.mark.parametrize(
    "words",
    [
        ("deploy", "init", "fed", "--server", "localhost", "--sites", "a"),
        ("deploy", "provision", "fed"),
        ("deploy", "up", "fed", "--data", "."),
        ("deploy", "submit", "recipe.toml", "--kit", "kit"),
        ("site", "check", "kit"),
        ("site", "start", "kit"),
    ],
)
def test_without_the_engine_the_mend_is_said(mistake: Mistake, words: tuple[str, ...]) -> None:
    assert mistake(*words) == "NVIDIA FLARE is not installed: pip install 'sammit[flare]'"
