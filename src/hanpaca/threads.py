"""How many threads a model is given: the cores that are free.

llama.cpp's threads wait for each other by spinning, some hundred times a token. One that has no
core of its own holds up all others: on two cores under a load of eleven, two threads wrote 0.3
tokens a second where one wrote 6.5. PyTorch's meet as often: a small model was trained at 35 tokens
a second with two of them under a load of eight, and at 570 to 800 with one.
"""

import os
import time
from pathlib import Path

_SMALL_BYTES = 20_000_000
"""Of a model whose layers are done sooner than threads have met."""
_RUNNING = Path("/proc/loadavg")
_LOOKS = 5
_SECONDS_BETWEEN = 0.01


def free_threads(gguf: Path) -> int:
    """One thread for each core that nothing else is using, and at least one."""
    return threads_for(gguf.stat().st_size)


def threads_for(num_bytes: int, free: int | None = None) -> int:
    """As `free_threads`, for a model of so many bytes; of `free` cores, or as many as are now."""
    if num_bytes < _SMALL_BYTES:
        return 1
    return free or free_cores()


def free_cores() -> int:
    """Cores that nothing else is using, and at least one."""
    return max(1, num_cores() - round(_load()))


def num_cores() -> int:
    """Cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _load() -> float:
    """How many cores others use.

    The average of the last minute still counts the work this process has just done, and a look at
    one moment is chance: the smaller of the two errs least.
    """
    average = os.getloadavg()[0]
    return min(average, _running_now()) if _RUNNING.is_file() else average


def _running_now() -> float:
    """Threads on a core or waiting for one, apart from this one; the mean of a few looks."""
    total = 0
    for _ in range(_LOOKS):
        running = _RUNNING.read_text(encoding="ascii").split()[3].partition("/")[0]
        total += int(running) - 1
        time.sleep(_SECONDS_BETWEEN)
    return total / _LOOKS
