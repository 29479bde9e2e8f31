"""Reads past the page cache, for large files that are read once and are not in memory yet.

Filling the cache and copying out of it takes more time than all of a merge's arithmetic; see
docs/log.md. Where the system has no such reads, or the file is cached, nobody notices.
"""

import mmap
import os
from pathlib import Path

MIN_BYTES = 1 << 18
"""Smaller reads gain nothing."""
_ALIGNMENT = 4096
_WINDOW_BYTES = (2 << 20) + _ALIGNMENT
"""What a thread of a merge reads in one go, and what is before it in its first block."""
_NUM_PROBES = 16


def open_direct(file: Path, cached: int) -> int | None:
    """Open a file for reads past the cache; None where ordinary ones are as good.

    Args:
        file: To open.
        cached: A descriptor of it for ordinary reads.
    """
    if not hasattr(os, "O_DIRECT") or not hasattr(os, "RWF_NOWAIT") or _is_cached(cached):
        return None
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_DIRECT)
    except OSError:
        return None
    try:
        os.preadv(descriptor, [mmap.mmap(-1, _ALIGNMENT)], 0)
    except OSError:  # a file system that only seems to have them
        os.close(descriptor)
        return None
    return descriptor


def _is_cached(descriptor: int) -> bool:
    """Whether most of a file is in memory, by bytes that are there without waiting."""
    size = os.fstat(descriptor).st_size
    there = 0
    for number in range(_NUM_PROBES):
        try:
            place = size * number // _NUM_PROBES
            there += os.preadv(descriptor, [bytearray(1)], place, os.RWF_NOWAIT)
        except BlockingIOError:
            continue
        except OSError:  # not to be had here: ordinary reads
            return True
    return there > _NUM_PROBES // 2


class Window:
    """A piece of a file in the memory of one thread, aligned as such reads must be."""

    def __init__(self) -> None:
        self.memory = mmap.mmap(-1, _WINDOW_BYTES)
        self.descriptor = -1
        self.start = self.stop = 0

    def read(self, descriptor: int, buffer: memoryview, at: int) -> int:
        """Fill the beginning of a buffer from a place in a file; returns the bytes there were."""
        if descriptor != self.descriptor or not self.start <= at < self.stop:
            self.start = at // _ALIGNMENT * _ALIGNMENT
            self.stop = self.start + os.preadv(descriptor, [self.memory], self.start)
            self.descriptor = descriptor
        count = max(0, min(len(buffer), self.stop - at))
        with memoryview(self.memory) as memory:
            buffer[:count] = memory[at - self.start : at - self.start + count]
        return count
