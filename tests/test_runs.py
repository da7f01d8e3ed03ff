"""The run folder and its states: written whole, read back exactly, refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sammit.config import Experiment
from sammit.errors import UserError
from sammit.files import clear_drafts, is_draft, write_atomically
from sammit.runs import RunFolder, died_at_first_write, need_space, read_facts, read_state, write_state

DRAFT = ".config.4711.part.toml"


def test_a_state_comes_back_as_it_was(tmp_path: Path) -> None:
    """Also tensors that share memory, are transposed, empty, or of another type."""
    whole = torch.arange(6.0).reshape(2, 3)
    state = {
        "a": whole, "same": whole, "turned": whole.T, "row": whole[1], "none": torch.zeros(0, 3),
        "count": torch.tensor(2**60), "half": torch.tensor([0.1], dtype=torch.bfloat16),
    }  # fmt: skip
    facts = {"round": 3, "log": [{"loss": 0.1 + 0.2}], "best": [1, -1.0], "name": "é"}
    write_state(tmp_path / "deep" / "s.safetensors", state, facts)
    back, told = read_state(tmp_path / "deep" / "s.safetensors")
    assert told == facts == read_facts(tmp_path / "deep" / "s.safetensors")
    assert back.keys() == state.keys()
    assert all(back[name].dtype == t.dtype and torch.equal(back[name], t) for name, t in state.items())


def test_states_that_cannot_be_read(tmp_path: Path) -> None:
    """Named, with the mend."""
    path = tmp_path / "s.safetensors"
    with pytest.raises(UserError, match=r"s\.safetensors: is missing or damaged"):
        read_state(path)
    assert read_facts(path) == {}
    path.write_bytes(b"x" * 40)
    with pytest.raises(UserError, match=r"s\.safetensors: is damaged"):
        read_facts(path)


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    """And no draft."""

    def fails(path: Path) -> None:
        path.write_text("half")
        raise RuntimeError("stop")

    write_atomically(tmp_path / "f.txt", "old")
    with pytest.raises(RuntimeError, match="stop"):
        write_atomically(tmp_path / "f.txt", fails)
    assert [path.name for path in tmp_path.iterdir()] == ["f.txt"]
    assert (tmp_path / "f.txt").read_text() == "old"
    with pytest.raises(UserError, match="is no folder, or lies under a file"):
        write_atomically(tmp_path / "f.txt" / "x.txt", "new")


def test_drafts_of_a_killed_process(tmp_path: Path) -> None:
    """Known by their name; files of the user are none."""
    assert is_draft(Path(DRAFT)) and is_draft(Path(".s.v2.12.part.safetensors")) and is_draft(Path(".LICENSE.3.part"))
    assert not any(is_draft(Path(name)) for name in (".part", ".hidden", "a.12.part.txt", ".a.b.part.c"))
    (tmp_path / "deep").mkdir()
    for name in (DRAFT, f"deep/{DRAFT}", ".hidden", "deep/kept.toml"):
        (tmp_path / name).write_text("x")
    clear_drafts(tmp_path)
    assert sorted(path.name for path in tmp_path.rglob("*")) == [".hidden", "deep", "kept.toml"]


def test_a_run_killed_at_its_first_write_starts_again(tmp_path: Path) -> None:
    """There is nothing to go on from, and nothing of the user's in the way."""
    (tmp_path / DRAFT).write_text("x")
    assert died_at_first_write(tmp_path)
    RunFolder.create(tmp_path, Experiment())
    assert not died_at_first_write(tmp_path)
    assert RunFolder.open(tmp_path).experiment == Experiment()
    with pytest.raises(UserError, match="is not empty"):
        RunFolder.create(tmp_path, Experiment())
    assert not died_at_first_write(tmp_path / "missing")


def test_room_on_the_disk(tmp_path: Path) -> None:
    """Of a folder that is not there yet, too."""
    need_space(tmp_path / "a" / "b", 1)
    with pytest.raises(UserError, match="free some space or choose another --out"):
        need_space(tmp_path / "a" / "b", 1 << 60)


def test_json_that_cannot_be_read(tmp_path: Path) -> None:
    """Missing or cut short: named."""
    folder = RunFolder.create(tmp_path, Experiment())
    with pytest.raises(UserError, match=r"sites\.json: is missing or damaged"):
        folder.read_json("sites.json")
    folder.write_json("sites.json", {"a": 1})
    assert folder.read_json("sites.json") == {"a": 1}
