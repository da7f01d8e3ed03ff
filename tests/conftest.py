"""A folder of tiny sites for all tests, one thread, and a cache of the tests' own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

import tiny

os.environ.setdefault("OMP_NUM_THREADS", "1")
# A busy machine is no defect, so there are no deadlines. What lands is what was tested: the same few examples each
# time; `pytest --hypothesis-profile=explore` draws more, and fresh ones.
settings.register_profile("explore", deadline=None)
settings.register_profile("sammit", deadline=None, derandomize=True, max_examples=40)
settings.load_profile("sammit")


def pytest_configure(config: pytest.Config) -> None:
    """typer asks click for names that are to move; neither is ours."""
    config.addinivalue_line("filterwarnings", "ignore:'click:DeprecationWarning")


@pytest.fixture(autouse=True, scope="session")
def tests_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What tests decode never lands in the user's cache."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SAMMIT_CACHE", str(folder))
        patch.setattr(os, "fsync", lambda handle: None)  # no test cuts the power, and a disk is slow
        yield folder


@pytest.fixture(scope="session")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two generated sites of three patients; no test may change them."""
    folder = tmp_path_factory.mktemp("sites")
    tiny.make_sites(folder)
    return folder


@pytest.fixture(scope="session")
def runs(sites: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A finished run of each method, made when it is first asked for; no test may change them."""
    return Runs(sites, tmp_path_factory.mktemp("runs"))


class Runs(dict[str, Path]):
    """Method -> its run's folder."""

    def __init__(self, sites: Path, base: Path) -> None:
        super().__init__()
        self.sites, self.base = sites, base

    def __missing__(self, method: str) -> Path:
        self[method] = tiny.run(tiny.experiment(self.sites, method), self.base / method)
        return self[method]
