"""Recipes and studies that come along, and where they are written to."""

from __future__ import annotations

from pathlib import Path

import pytest

from sammit.errors import UserError
from sammit.recipe import load_experiment
from sammit.shipped import shipped, write_shipped

ROOT = Path(__file__).parents[1]


def test_all_of_a_checkout_come_along(tmp_path: Path) -> None:
    """As they are; a second time changes nothing."""
    written = write_shipped(tmp_path)
    ours = {path for folder in ("recipes", "studies") for path in (ROOT / folder).iterdir()}
    assert {path.relative_to(tmp_path) for path in written} == {path.relative_to(ROOT) for path in ours}
    assert all((tmp_path / path.relative_to(ROOT)).read_bytes() == path.read_bytes() for path in ours)
    assert write_shipped(tmp_path) == written


def test_what_a_user_changed_is_not_written_over(tmp_path: Path) -> None:
    """And then nothing else is written either."""
    own = tmp_path / "recipes" / "pfedsam-nuclei.toml"
    own.parent.mkdir()
    own.write_text("name = 'mine'")
    with pytest.raises(UserError, match=r"pfedsam-nuclei.toml: is there already and differs; move it away"):
        write_shipped(tmp_path)
    assert own.read_text() == "name = 'mine'" and not (tmp_path / "studies").exists()


def test_a_recipe_that_is_elsewhere_is_offered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "recipes/pfedsam-nuclei.toml" in shipped()
    with pytest.raises(UserError, match=r"`sammit recipes \.` writes those that come with Sammit"):
        load_experiment(Path("recipes/pfedsam-nuclei.toml"))
    with pytest.raises(UserError, match="check the path"):
        load_experiment(Path("recipes/of-my-own.toml"))
