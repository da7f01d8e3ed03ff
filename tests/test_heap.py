"""Long blocks are given back although others lie behind them."""

from __future__ import annotations

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


def resident(mapped: bool) -> int:
    """MB in a process that holds every other of 40 blocks of 5 MB."""
    answer = subprocess.run(
        [sys.executable, "-c", SIEVE.format(mapped=mapped)], capture_output=True, check=True, text=True
    )
    return int(answer.stdout) // 1000


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's heap")
def test_long_blocks_are_the_systems_again() -> None:
    assert resident(True) < 150 < 190 < resident(False)
