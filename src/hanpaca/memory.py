"""How much memory there is, and how much work takes."""

import gc
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

Made = TypeVar("Made")
_MACHINE, _PROCESS = Path("/proc/meminfo"), Path("/proc/self/status")
_FORGET_PEAK = Path("/proc/self/clear_refs")
_PEAK = "5"
"""Written there, it makes the peak what is resident now (proc(5))."""


def free_bytes() -> float:
    """Memory that can be had without swapping; no limit where the system does not tell."""
    found = _told(_MACHINE, "MemAvailable:")
    return float("inf") if found is None else float(found)


def with_growth(work: Callable[[], Made]) -> tuple[Made, int | None]:
    """What work makes, and by how many bytes the process grew at most meanwhile.

    None where the system does not tell, as other than Linux does not.

    >>> with_growth(lambda: 1)[0]
    1
    """
    gc.collect()
    before = _told(_PROCESS, "VmRSS:") if _forget_peak() else None
    made = work()
    peak = _told(_PROCESS, "VmHWM:")
    return made, max(0, peak - before) if peak is not None and before is not None else None


def _forget_peak() -> bool:
    try:
        _FORGET_PEAK.write_text(_PEAK, encoding="ascii")
    except OSError:
        return False
    return True


def _told(file: Path, name: str) -> int | None:
    """Bytes of a line such as `VmHWM: 1234 kB`."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(name)), None)
