"""The lists of pinned packages: a release's tools are installed under both of them at once."""

from __future__ import annotations

from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]


def pinned(name: str) -> list[str]:
    """Packages of a list, each of which has one exact version."""
    lines = [line for line in (ROOT / name).read_text().splitlines() if line and not line.startswith("#")]
    needs = [Requirement(line) for line in lines]
    assert all([one.operator for one in need.specifier] == ["=="] for need in needs)
    return [canonicalize_name(need.name) for need in needs]


def test_every_package_is_pinned_once() -> None:
    own, release = pinned("constraints.txt"), pinned("constraints-release.txt")
    assert len({*own, *release}) == len(own) + len(release)
