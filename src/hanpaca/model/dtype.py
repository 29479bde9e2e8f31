"""In which type this machine multiplies matrices faster.

Processors with bfloat16 instructions are not always quicker with them: AMX tiles and AMD's units
are, several times over, while two cores of an Intel server without AMX (as in many virtual
machines) gave 165 GFLOP/s in bfloat16 and 300 in float32. So it is tried, not looked up.
"""

import time
from statistics import median

import torch

_SHAPE = (512, 1024, 1024)
_ROUNDS = 7


def faster_dtype() -> torch.dtype:
    """The faster of bfloat16 and float32 for products of matrices; bfloat16 on an accelerator.

    Takes about 0.1 s. Two machines, or one machine when it is busy, may give two answers: who needs
    the same answer again has to keep it.
    """
    if torch.cuda.is_available():
        return torch.bfloat16
    return min((torch.bfloat16, torch.float32), key=_seconds)


def _seconds(dtype: torch.dtype) -> float:
    """Of one product, after one that is not counted."""
    rows, inner, columns = _SHAPE
    left, right = torch.ones(rows, inner, dtype=dtype), torch.ones(columns, inner, dtype=dtype)
    seconds = []
    for _ in range(_ROUNDS):
        began = time.perf_counter()
        left @ right.t()
        seconds.append(time.perf_counter() - began)
    return median(seconds[1:])
