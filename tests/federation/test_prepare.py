"""What a recipe's settings do to the process that trains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import tiny
from sammit import heap
from sammit.federation.prepare import fresh, make_method


@pytest.mark.parametrize(
    ("training", "small"), [({}, False), ({"precision": "bf16"}, False), ({"checkpointing": True}, True)]
)
def test_memory_goes_back_where_it_is_to_be_small(
    training: dict[str, Any], small: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(heap, "map_blocks", lambda: told.append("back"))
    monkeypatch.setattr(heap, "keep_blocks", lambda: told.append("kept"))
    experiment = tiny.experiment(Path("nowhere"), training=training)
    fresh(experiment, make_method(experiment), 1)
    assert told == ["back" if small else "kept"]
