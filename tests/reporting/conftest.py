"""One made-up run with everything in it, written once for all tests of this folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from .fake import FakeRun, make_run


@pytest.fixture(scope="session")
def full_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "full", FakeRun(rounds=6, cases=10, side=80))
