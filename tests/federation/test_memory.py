"""A site's private files: what is staged becomes committed only when the server took the round."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sammit.errors import UserError
from sammit.federation.memory import PrivateMemory
from sammit.vocabulary import Order, State


def order(round_index: int, accepted: int = -1, origin: str = "", kind: str = "train") -> Order:
    """An order that says which update was taken."""
    return Order(kind, "aster", round_index, {}, accepted=accepted, origin=origin)  # type: ignore[arg-type]


def state(value: float) -> State:
    """A private state."""
    return {"personal.x": torch.full((2,), value)}


def committed(memory: PrivateMemory) -> tuple[float | None, int]:
    """The committed value and its round."""
    tensors, round_index = memory.committed()
    return (float(tensors["personal.x"][0]) if tensors else None), round_index


def test_committed_when_the_round_was_taken(tmp_path: Path) -> None:
    """And kept over further orders that say the same."""
    memory = PrivateMemory(tmp_path)
    assert committed(memory) == (None, -1)
    memory.stage(state(1), 0, "mark")
    assert committed(memory) == (None, -1)
    for _ in range(2):
        memory.settle(order(1, 0, "mark"))
        assert committed(memory) == (1.0, 0)


def test_forgotten_when_the_round_was_not_taken(tmp_path: Path) -> None:
    """Whether refused, or trained before a kill of the server from another state."""
    memory = PrivateMemory(tmp_path)
    memory.stage(state(1), 0, "mark")
    memory.settle(order(0))
    memory.stage(state(2), 0, "mark")
    memory.settle(order(1, 0, "mark"))
    memory.stage(state(3), 1, "other")
    memory.settle(order(1, 0, "mark", "evaluate"))  # the round may yet be taken
    memory.settle(order(2, 0, "mark"))
    assert committed(memory) == (2.0, 0)
    assert not (tmp_path / "staged.safetensors").exists()


def test_an_update_taken_whose_private_half_is_lost(tmp_path: Path) -> None:
    """Never goes on from an older state in silence."""
    memory = PrivateMemory(tmp_path)
    memory.stage(state(1), 0, "mark")
    memory.settle(order(1, 0, "mark"))
    with pytest.raises(UserError, match="round 1 is not in the site's folder; restore"):
        memory.settle(order(2, 1, "mark"))


def test_the_best_state_is_kept_under_the_best_round(tmp_path: Path) -> None:
    """Also where this site's own last round is older, because it failed in the best one."""
    memory = PrivateMemory(tmp_path)
    memory.stage(state(1), 0, "mark")
    memory.settle(order(1, 0, "mark"))
    memory.keep(1)
    memory.stage(state(2), 2, "later")
    memory.settle(order(3, 2, "later"))
    kept, round_index = memory.kept()
    assert (float(kept["personal.x"][0]), round_index) == (1.0, 1)
    assert committed(memory) == (2.0, 2)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    """With the mend."""
    memory = PrivateMemory(tmp_path)
    memory.stage(state(1), 0, "mark")
    path = tmp_path / "staged.safetensors"
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(UserError, match=r"staged\.safetensors: is damaged .* restore"):
        memory.settle(order(1, 0, "mark"))
