"""One decoding for all runs; never a stale, broken or missing one."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sammit.config import DataConfig
from sammit.data import open_sites
from sammit.data.cache import Cache
from sammit.data.decode import Entry, Facts


def _entry(value: int = 1) -> Entry:
    facts = Facts((1.0, 2.0, 3.0), 3, 0.0, 255.0, True, ((0,), ()))
    return Entry(np.full((2, 4, 5, 3), value, np.uint8), np.full((2, 4, 5, 1), 3, np.uint8), facts)


def _never() -> Entry:
    raise AssertionError("decoded again")


def test_stored_and_mapped(tmp_path: Path) -> None:
    Cache(tmp_path).get("abc", _entry)
    again = Cache(tmp_path).get("abc", _never)
    assert (again.image == 1).all() and again.facts == _entry().facts and again.image.flags.writeable


@pytest.mark.parametrize("kind", ["image.npy", "bits.npy", "json"])
@pytest.mark.parametrize("damage", ["cut", "gone", "rubbish"])
def test_a_broken_entry_is_rebuilt(tmp_path: Path, kind: str, damage: str) -> None:
    Cache(tmp_path).get("abc", _entry)
    path = tmp_path / "ab" / f"abc.{kind}"
    whole = path.read_bytes()
    path.unlink() if damage == "gone" else path.write_bytes(whole[: len(whole) // 2] if damage == "cut" else b"x" * 99)
    assert (Cache(tmp_path).get("abc", _entry).image == 1).all()
    assert path.read_bytes() == whole


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    cache = Cache(tmp_path / "file")
    assert (cache.get("abc", _entry).image == 1).all() and cache.get("abc", _never)


def test_memory_is_bounded(tmp_path: Path) -> None:
    cache = Cache(tmp_path, limit=3 * _entry().nbytes)
    for index in range(9):
        cache.get(f"key{index}", _entry)
    assert len(cache._held) == 3 and cache._size == 3 * _entry().nbytes


def test_so_is_the_number_of_maps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small images of many sites would reach the system's bound before memory does; what went is mapped again."""
    monkeypatch.setattr("sammit.data.cache.OPEN", 4)
    cache = Cache(tmp_path)
    for index in range(9):
        cache.get(f"key{index}", _entry)
    assert list(cache._held) == ["key5", "key6", "key7", "key8"]
    assert (cache.get("key0", _never).image == 1).all()


def test_what_changes_makes_another_entry(make_site: Callable[..., Path], own_cache: Path) -> None:
    folder = make_site()
    first = open_sites(DataConfig(root=str(folder)), 0)[0]
    before = first.load(first.all_cases[0])
    other = open_sites(DataConfig(root=str(folder), intensity="percentile"), 0)[0]
    assert other.load(other.all_cases[0]).image.dtype != before.image.dtype
    path, spare = first.all_cases[0].image[0], first.all_cases[1].image[0]
    path.write_bytes(spare.read_bytes())
    fresh = open_sites(DataConfig(root=str(folder)), 0)[0]
    assert (fresh.load(fresh.all_cases[0]).image != before.image).any()


def test_two_processes_share_a_cache(make_site: Callable[..., Path], own_cache: Path) -> None:
    root = make_site().parent
    code = (
        "import sys; from sammit.data import open_sites; from sammit.config import DataConfig\n"
        "site = open_sites(DataConfig(root=sys.argv[1], cache=sys.argv[2]), 0)[0]\n"
        "print(sum(int(site.load(case).image.sum()) for case in site.all_cases))"
    )
    runs = [
        subprocess.Popen([sys.executable, "-c", code, str(root), str(own_cache)], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    sums = [run.communicate(timeout=60)[0] for run in runs]
    site = open_sites(DataConfig(root=str(root)), 0)[0]
    assert sums == [f"{sum(int(site.load(case).image.sum()) for case in site.all_cases)}\n"] * 2
    assert not list(own_cache.rglob("*.part*"))
