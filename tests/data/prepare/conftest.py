"""Miniature raw copies in the layouts of the public releases, and what every dataset's refusals have in common."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sammit.config import DataConfig
from sammit.data import open_sites
from sammit.data.check import check
from sammit.data.prepare import prepare
from sammit.data.site import Site
from sammit.errors import UserError

Open = Callable[..., dict[str, Site]]


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """An empty folder for a raw copy."""
    folder = tmp_path / "copy"
    folder.mkdir()
    return folder


@pytest.fixture
def opened(raw: Path, tmp_path: Path) -> Open:
    """Prepares a dataset, checks the root as `sammit data check` does, opens it; returns its sites by name."""

    def call(name: str, *options: str) -> dict[str, Site]:
        out = tmp_path / "out"
        prepare(name, raw, out, options)
        assert not [problem for report in check(DataConfig(root=str(out), view="whole")) for problem in report.problems]
        return {site.name: site for site in open_sites(DataConfig(root=str(out)), 0)}

    return call


@pytest.fixture
def refused(raw: Path, tmp_path: Path) -> Callable[..., str]:
    """Prepares what must be refused; returns the one line that says why. Nothing may have been written by then."""

    def call(name: str, *options: str) -> str:
        told: list[str] = []
        before = set(tmp_path.rglob("*"))
        with pytest.raises(UserError) as refusal:
            prepare(name, raw, tmp_path / "out", options, told.append)
        assert set(tmp_path.rglob("*")) == before
        problems = [line for line in told if line.startswith("PROBLEM")]
        assert not problems, "\n".join(problems)
        assert "\n" not in str(refusal.value)
        return str(refusal.value)

    return call


def truth(site: Site, case: str) -> np.ndarray:
    """(D, H, W, C) bool of a prepared case."""
    return next(site.load(found).truth for found in site.all_cases if found.name == case)
