"""Studies of tests are watched closely: their cells take no time."""

from __future__ import annotations

import pytest

from sammit.study import engine


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at the cells every hundredth of a second."""
    monkeypatch.setattr(engine, "PAUSE", 0.01)
