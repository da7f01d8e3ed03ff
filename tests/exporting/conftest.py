"""The scripts that go into exports, imported as they are there: by their own names, from their own folder."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType

import pytest

from sammit.exporting.copying import STANDALONE


@pytest.fixture
def standalone(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The module `masks`, which brings `reading`."""
    import sys

    monkeypatch.syspath_prepend(str(STANDALONE))
    import masks

    yield masks
    for name in ("masks", "reading"):
        sys.modules.pop(name, None)
