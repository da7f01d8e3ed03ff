"""The scripts that make the site's reference."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

import pytest

from pages.fences import ROOT


@pytest.fixture
def reference(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """`scripts/docs_reference.py`."""
    monkeypatch.syspath_prepend(ROOT / "scripts")
    return import_module("docs_reference")
