"""Memory that large files leave behind: freed by Python, kept by the C library in case it is wanted again.

The engine hands pieces of megabytes from thread to thread. glibc gives every thread a heap of its own and keeps what is
freed there, so that a server that carries files of 400 MB would hold gigabytes of nothing. Small files are left alone:
asking the system for memory anew each time is slower.
"""

from __future__ import annotations

from sammit import heap
from sammit.federation.stored import LARGE


def before(size: int) -> None:
    """Prepare for files of `size` bytes: two heaps for all threads, and none for what is longer than a megabyte."""
    if size > LARGE:
        heap.share_heaps(2)
        heap.map_blocks(1 << 20)


def after(size: int) -> None:
    """Hand what a file of `size` bytes has left to the system."""
    if size > LARGE:
        heap.trim()
