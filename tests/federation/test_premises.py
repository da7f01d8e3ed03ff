"""A hospital's own settings: what `sammit site init` writes is read again; bad values are one line each."""

from __future__ import annotations

from pathlib import Path

import pytest

from sammit.errors import UserError
from sammit.federation.premises import NoiseSettings, Premises, load_premises, write_premises


@pytest.fixture
def kit(tmp_path: Path) -> Path:
    for name in ("kit", "images"):
        (tmp_path / name).mkdir()
    write_premises(tmp_path / "kit", tmp_path / "images", tmp_path / "home", "cpu")
    return tmp_path / "kit"


def changed(kit: Path, old: str, new: str) -> Path:
    path = kit / "site.toml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    return kit


def test_what_is_written_is_read_and_holds_the_defaults(kit: Path) -> None:
    """But for the policy, in which a new site tells no scores of few patients."""
    found = load_premises(kit)
    assert (found.noise, found.limits) == (NoiseSettings(), Premises("", "").limits)
    assert found.policy.hours == "" and not found.noise.on


def test_noise_and_hours_are_read(kit: Path) -> None:
    pytest.importorskip("dp_accounting")
    changed(kit, 'hours = ""', 'hours = "20:00-06:00"')
    changed(changed(kit, "clip = 0.0", "clip = 1"), "multiplier = 0.0", "multiplier = 4.5")
    found = load_premises(kit)
    assert found.noise == NoiseSettings(1.0, 4.5, 1e-5, 0.0) and found.noise.on
    assert found.policy.hours == "20:00-06:00"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("clip = 0.0", "clip = 1.0", "noise: clip and multiplier must both be above 0, or both 0 for no noise"),
        ("multiplier = 0.0", "multiplier = 1.0", "noise: clip and multiplier must both be above 0"),
        ("clip = 0.0", "clip = -1.0", "noise.clip: must be 0 or more, not -1.0"),
        ("clip = 0.0", "clip = nan", "noise.clip: must be 0 or more, not nan"),
        ("multiplier = 0.0", "multiplier = inf", "noise.multiplier: must be 0 or more, not inf"),
        ("delta = 1e-5", "delta = 1", "noise.delta: must be above 0 and below 1, not 1.0"),
        ("largest_epsilon = 0.0", "largest_epsilon = 3", "noise.largest_epsilon: nothing is noised; set noise.clip"),
        ("clip = 0.0", "clips = 0.0", "unknown key 'noise.clips': did you mean 'clip'"),
        ('hours = ""', 'hours = "8-20"', "policy.hours: must be two times of day, such as '20:00-06:00', not '8-20'"),
    ],
)
def test_what_cannot_be_is_one_line_with_the_file(kit: Path, old: str, new: str, said: str) -> None:
    with pytest.raises(UserError) as refused:
        load_premises(changed(kit, old, new))
    assert str(refused.value).startswith(f"{kit / 'site.toml'}: {said}") and "\n" not in str(refused.value)


def test_noise_without_its_library_is_told_when_the_site_starts(kit: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sammit.federation.accountant.find_spec", lambda name: None)
    load_premises(kit)
    changed(changed(kit, "clip = 0.0", "clip = 1"), "multiplier = 0.0", "multiplier = 4.5")
    with pytest.raises(UserError, match=r"site.toml: noise needs dp-accounting, .* pip install 'sammit\[flare\]'"):
        load_premises(kit)
