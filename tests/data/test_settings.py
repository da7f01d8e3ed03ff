"""`dataset.toml`, the recipe, and the rules of structures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sammit.config import DataConfig
from sammit.data.settings import settings_for
from sammit.data.structures import structures_of
from sammit.errors import UserError


def test_rules() -> None:
    labels = np.array([0, 1, 2, 3, 200])
    table = {"any": "> 0", "high": ">= 128", "three": "== 3", "two": 2, "few": [1, 2], "low": "<3", "not": "!= 0"}
    found = {structure.name: structure.of(labels).tolist() for structure in structures_of(table)}
    assert found["any"] == found["not"] == [False, True, True, True, True]
    assert found["high"] == [False, False, False, False, True] and found["three"] == [False, False, False, True, False]
    assert found["two"] == [False, False, True, False, False] and found["few"] == [False, True, True, False, False]
    assert found["low"] == [True, True, True, False, False] and list(found) == list(table)
    assert [structure.name for structure in structures_of({})] == ["foreground"]


@pytest.mark.parametrize("rule", ["about 3", "", [], [1, "2"], True, 1.5, {"a": 1}])
def test_other_rules_are_refused(rule: object) -> None:
    with pytest.raises(UserError, match="structure 'cup'"):
        structures_of({"cup": rule})


def test_recipe_over_site_over_root(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "dataset.toml").write_text('patient = "(a)"\nscale = 2\nintensity = "percentile"\nignore = 255\n')
    (tmp_path / "site" / "dataset.toml").write_text("scale = 3\nchannels = [1]\n[structures]\ncup = 2\n")
    settings = settings_for(DataConfig(patient="(b)"), tmp_path, tmp_path / "site")
    assert (settings.config.patient, settings.config.scale, settings.config.intensity) == ("(b)", 3.0, "percentile")
    assert settings.channels == (1,) and settings.ignore == 255 and settings.structures[0].name == "cup"
    assert settings.view.scale == 3.0


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("windw = [0, 1]", "unknown key 'windw': did you mean 'window'"),
        ("window = [3, 1]", "low below high"),
        ('patient = "P[0-9]+"', "exactly one group"),
        ("[structures]\ncup = 'x'", "structure 'cup'"),
        ("scale = 'big'", "must be a number"),
        ("scale =", "not a TOML file"),
    ],
)
def test_a_mistake_names_the_file(tmp_path: Path, text: str, line: str) -> None:
    (tmp_path / "dataset.toml").write_text(text)
    with pytest.raises(UserError) as error:
        settings_for(DataConfig(), tmp_path)
    assert str(error.value).startswith(str(tmp_path / "dataset.toml")) and line in str(error.value)


def test_patients() -> None:
    settings = settings_for(DataConfig(patient="_([0-9]+)"))
    assert settings.patient("Image_01L") == settings.patient("Image_01R") == "01"
    assert settings.patient("other") == "other" and not settings.matched("other")
