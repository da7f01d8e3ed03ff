"""How the C library keeps freed memory, where it is glibc; elsewhere all of this does nothing.

glibc takes short blocks from a heap and long ones from the system, and raises the limit between the two to what was
last freed, up to 32 MB. Training frees blocks of that size between smaller ones that stay: the heap becomes a sieve
that is never given back. One step of ViT-B at 1024 px with checkpointing held 2.4 GB so, of which 1.3 were in use.
Fresh blocks cost time: the system has to clear each page. A plain step in fp32 had 2.5 million cleared, not 0.4, and
where nobody asked for little memory the heap keeps what one step frees for the next.
"""

from __future__ import annotations

import ctypes
import os
import sys
from contextlib import suppress

BLOCK = 1 << 22
"""Bytes. What small models and small images make is shorter, and fresh memory costs it nothing."""

LONGEST = 1 << 25
"""Bytes. The highest limit between short and long blocks that glibc takes."""

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
"""glibc's numbers of how much may lie free at the heap's end, of that limit, and of how many heaps threads have."""


def map_blocks(size: int = BLOCK) -> None:
    """From now on a block of `size` bytes or more is the system's again as soon as it is free."""
    _tell("mallopt", _MMAP_THRESHOLD, size)


def keep_blocks(free: int = 1 << 30) -> None:
    """From now on blocks of up to 32 MB are the heap's, and up to `free` bytes at its end stay for what comes next.

    Whoever has set glibc by its variables (`MALLOC_MMAP_THRESHOLD_` and the like) keeps what is set.
    """
    if not any(name.startswith("MALLOC_") for name in os.environ):
        _tell("mallopt", _MMAP_THRESHOLD, LONGEST)
        _tell("mallopt", _TRIM_THRESHOLD, free)


def share_heaps(count: int) -> None:
    """From now on threads have no more than `count` heaps between them."""
    _tell("mallopt", _ARENA_MAX, count)


def trim() -> None:
    """Hand to the system what lies free in the heaps."""
    _tell("malloc_trim", 0)


def _tell(function: str, *numbers: int) -> None:
    if sys.platform.startswith("linux"):
        with suppress(OSError, AttributeError):
            getattr(ctypes.CDLL(None), function)(*numbers)
