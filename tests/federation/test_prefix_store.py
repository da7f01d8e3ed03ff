"""The store of kept activations: what comes back is what was written, or nothing; the bound holds."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest
import torch
from torch import Tensor

from sammit.federation.prefix_store import DIGEST, PrefixStore

SHAPE = (2, 3, 4)
BYTES = 2 * 24 + DIGEST


def numbers(seed: int) -> Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed)).half()


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_what_is_written_comes_back(tmp_path: Path) -> None:
    """In another process's store of the same folder as well; names are kept apart."""
    store = PrefixStore(tmp_path / "new", 10**6)
    assert store.get("ab1", SHAPE) is None
    store.put("ab1", numbers(1))
    store.put("ab2", numbers(2).permute(2, 1, 0).contiguous().permute(2, 1, 0))
    other = PrefixStore(tmp_path / "new", 10**6)
    for name, seed in (("ab1", 1), ("ab2", 2)):
        found = other.get(name, SHAPE)
        assert found is not None and found.dtype == torch.float16 and torch.equal(found, numbers(seed))
    assert [path.stat().st_size for path in files(tmp_path)] == [BYTES, BYTES]


@pytest.mark.parametrize("harm", ["flip", "short", "long", "empty", "digest", "misnamed"])
def test_a_broken_file_counts_as_missing(tmp_path: Path, harm: str) -> None:
    """And is written anew."""
    store = PrefixStore(tmp_path, 10**6)
    store.put("ab1", numbers(1))
    (path,) = files(tmp_path)
    data = bytearray(path.read_bytes())
    if harm == "flip":
        data[7] ^= 1
    elif harm == "digest":
        data[-1] ^= 1
    elif harm == "misnamed":
        store.put("ab2", numbers(2))
        data = bytearray(path.with_name("ab2.f16").read_bytes())
    else:
        data = {"short": data[:-1], "long": data + b"\0", "empty": bytearray()}[harm]
    path.write_bytes(data)
    assert store.get("ab1", SHAPE) is None
    store.put("ab1", numbers(1))
    found = store.get("ab1", SHAPE)
    assert found is not None and torch.equal(found, numbers(1))


def test_another_shape_is_another_array(tmp_path: Path) -> None:
    store = PrefixStore(tmp_path, 10**6)
    store.put("ab1", numbers(1))
    assert store.get("ab1", (2, 3, 5)) is None


@pytest.mark.parametrize("room", [3, 40])
def test_the_longest_unused_go_first(tmp_path: Path, room: int) -> None:
    """The folder never takes more than the bound, and what was just used stays."""
    store = PrefixStore(tmp_path, room * BYTES)
    for index in range(3 * room):
        store.put(f"{index:04d}", numbers(index))
        for age, path in enumerate(files(tmp_path)):  # clocks of file systems may be coarse
            os.utime(path, ns=(age, age))
        assert store.get("0000", SHAPE) is not None, "was used after all others"
        assert sum(path.stat().st_size for path in files(tmp_path)) <= store.limit
    assert store.get(f"{3 * room - 1:04d}", SHAPE) is not None
    assert store.get("0001", SHAPE) is None
    assert len(files(tmp_path)) > room * 0.8


def test_what_fits_is_never_taken_away(tmp_path: Path) -> None:
    """A set of files as large as the bound stays whole, whatever lay there before."""
    before = PrefixStore(tmp_path, 50 * BYTES)
    for index in range(50):
        before.put(f"old{index}", numbers(index))
    for path in files(tmp_path):
        os.utime(path, ns=(1, 1))
    store = PrefixStore(tmp_path, 50 * BYTES)
    for index in range(50):
        store.put(f"new{index}", numbers(index))
    assert all(store.get(f"new{index}", SHAPE) is not None for index in range(50))


def test_other_processes_files_count(tmp_path: Path) -> None:
    """Two that write by turns stay within a sixteenth of the bound."""
    stores = [PrefixStore(tmp_path, 64 * BYTES) for _ in range(2)]
    for index in range(200):
        stores[index % 2].put(f"{index:04d}", numbers(index))
        assert sum(path.stat().st_size for path in files(tmp_path)) <= 64 * BYTES * (1 + 2 / 16)


def test_a_disk_that_takes_nothing_is_told_of_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("no folder")
    store = PrefixStore(tmp_path / "file", 10**6)
    with caplog.at_level(logging.WARNING):
        store.put("ab1", numbers(1))
        store.put("ab2", numbers(2))
    assert len(caplog.records) == 1 and "computed again each time" in caplog.text
    assert store.get("ab1", SHAPE) is None
