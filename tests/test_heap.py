"""Long blocks are given back although others lie behind them, or kept although nothing does."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

SIEVE = """
from sammit import heap
if {mapped}:
    heap.map_blocks()
del (raised := [bytearray(30 << 20)])[:]
block = b"x" * (5 << 20)
blocks = [bytearray(block) for _ in range(40)]
del blocks[::2]
with open("/proc/self/status") as status:
    print(next(line.split()[1] for line in status if line.startswith("VmRSS")))
"""


KEPT = """
from sammit import heap
if {kept}:
    heap.keep_blocks()
for _ in range(2):
    del (blocks := [b"x" * (20 << 20) for _ in range(10)])[:]
with open("/proc/self/status") as status:
    print(next(line.split()[1] for line in status if line.startswith("VmRSS")))
"""


def resident(program: str, **settings: str) -> int:
    """MB at a program's end, under these variables beside the process's own, but for glibc's."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    command = [sys.executable, "-c", program]
    answer = subprocess.run(command, capture_output=True, check=True, text=True, env=plain | settings)
    return int(answer.stdout) // 1000


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's heap")
def test_long_blocks_are_the_systems_again() -> None:
    assert resident(SIEVE.format(mapped=True)) < 150 < 190 < resident(SIEVE.format(mapped=False))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's heap")
def test_what_is_free_at_the_end_stays_for_the_next_step() -> None:
    assert resident(KEPT.format(kept=False)) < 100 < 190 < resident(KEPT.format(kept=True))
    assert resident(KEPT.format(kept=True), MALLOC_MMAP_THRESHOLD_="1048576") < 100
