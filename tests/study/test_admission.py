"""When memory allows a further cell, on machines made up."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from sammit.study.admission import Admission
from sammit.study.machine import cores, free_memory, held_memory, processor

GB = 10**9


def admission(free: int, held: dict[int, int] | None = None) -> Admission:
    """On a machine with so much free; `held`: what processes hold now."""
    return Admission(lambda: free, lambda pid: (held or {}).get(pid, 0))


def test_the_first_cell_always_starts() -> None:
    """Even where nobody knows whether it fits: nothing else could ever free the memory."""
    assert admission(1 * GB).admits(500 * GB, [])


def test_two_cells_of_unknown_need_fit_and_a_third_does_not() -> None:
    """Each counts for a little less than half of what was free at the start."""
    machine = admission(10 * GB)
    need = machine.need(None)
    assert machine.admits(need, [(1, need)])
    assert not machine.admits(need, [(1, need), (2, need)])


def test_what_a_running_cell_will_still_take_is_not_free() -> None:
    """Its need less what it holds already; one that holds more than was known counts for nothing more."""
    held = {1: 1 * GB, 2: 5 * GB}
    machine = admission(10 * GB, held)
    assert machine.need(4 * GB) == 4 * GB
    assert machine.admits(4 * GB, [(1, 7 * GB)])
    assert not machine.admits(4 * GB + 1, [(1, 7 * GB)])
    assert machine.admits(10 * GB, [(2, 4 * GB)])


@given(st.lists(st.integers(1, 8), min_size=1, max_size=20), st.integers(1, 24))
def test_what_is_admitted_fits_at_its_peak(needs: list[int], free: int) -> None:
    """Cells that hold nothing yet, one after the other: all peaks together stay within what is free."""
    machine = admission(free)
    running: list[tuple[int, int]] = []
    for pid, need in enumerate(needs):
        if machine.admits(need, running):
            running.append((pid, need))
    assert len(running) == 1 or sum(need for _, need in running) <= free


def test_meminfo(tmp_path: Path) -> None:
    """MemAvailable in bytes; a guess from the machine's memory where there is none."""
    path = tmp_path / "meminfo"
    path.write_text("MemTotal:       24000000 kB\nMemFree:   1 kB\nMemAvailable:   12000000 kB\n")
    assert free_memory(path) == 12_000_000 * 1024
    for text in ("MemTotal: 24000000 kB\n", "MemAvailable:\n", "MemAvailable: much kB\n"):
        path.write_text(text)
        assert free_memory(path) == free_memory(tmp_path / "nothing") > 100_000_000


def test_this_machine() -> None:
    """It has a core, a name, and this process holds some memory; one that has ended holds none."""
    import os

    assert cores() >= 1 and processor()
    assert held_memory(os.getpid()) > 1_000_000
    assert held_memory(2**22 + 1) == 0
