"""Memory that large files leave behind: freed by Python, kept by the C library in case it is wanted again.

The engine hands pieces of megabytes from thread to thread. glibc gives every thread a heap of its own and keeps what is
freed there, so that a server that carries files of 400 MB would hold gigabytes of nothing. Small files are left alone:
asking the system for memory anew each time is slower.
"""

from __future__ import annotations

import ctypes
import sys
from contextlib import suppress

from sammit.federation.stored import LARGE

_MMAP_THRESHOLD, _ARENA_MAX = -3, -8
"""glibc's M_MMAP_THRESHOLD, bytes from which on memory is the system's again once it is free, and M_ARENA_MAX."""


def before(size: int) -> None:
    """Prepare for files of `size` bytes: two heaps for all threads, and none for what is longer than a megabyte."""
    if size > LARGE:
        _tell("mallopt", _ARENA_MAX, 2)
        _tell("mallopt", _MMAP_THRESHOLD, 1 << 20)


def after(size: int) -> None:
    """Hand what a file of `size` bytes has left to the system."""
    if size > LARGE:
        _tell("malloc_trim", 0)


def _tell(function: str, *numbers: int) -> None:
    """Call the C library, where it is glibc."""
    if sys.platform.startswith("linux"):
        with suppress(OSError, AttributeError):
            getattr(ctypes.CDLL(None), function)(*numbers)
