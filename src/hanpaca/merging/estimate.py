"""What a merge will cost: bytes, memory, and time at the speed this disk copies at now."""

import os
import resource
import shutil
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path

from hanpaca.checkpoints.tensors import matrix_shape
from hanpaca.merging.execute import MAX_PENDING, work_rows
from hanpaca.merging.outputs import Addition, OutputTensor, chunk_rows
from hanpaca.merging.plan import MergePlan
from hanpaca.merging.run import NUM_THREADS

_OVER_COPY = 1.0
"""Seconds of a merge for each of a copy of as many bytes; benchmarks/merge.py and docs/log.md."""
_TRIAL_BYTES, _TRIAL_SECONDS, _PIECE_BYTES = 256 << 20, 1.0, 4 << 20


@dataclass(frozen=True)
class MergeEstimate:
    """A merge that was not done."""

    num_read_bytes: int
    num_bytes: int
    """To be written."""
    peak_bytes: int
    """Of this program's memory."""
    copy_bytes_per_second: float
    """As measured just now, from the base's disk to the output's."""
    seconds: float
    free_bytes: int
    """On the output's disk."""


def estimate(plan: MergePlan, output: Path) -> MergeEstimate:
    """Predict a merge; copies up to 256 MB of the base to a nameless file beside the output.

    Raises:
        OSError: The output's disk cannot be written to.
    """
    place = next(folder for folder in output.absolute().parents if folder.exists())
    rate = _copy_rate(max(plan.files, key=lambda file: file.stat().st_size), place)
    num_bytes = max(plan.num_bytes, plan.num_read_bytes)
    return MergeEstimate(
        plan.num_read_bytes,
        plan.num_bytes,
        _resident_bytes() + _buffers(plan) + _factors(plan),
        rate,
        _OVER_COPY * num_bytes / rate,
        shutil.disk_usage(place).free,
    )


def _copy_rate(source: Path, folder: Path) -> float:
    """Bytes a second, from a disk that is asked not to have them in memory already."""
    done = 0
    with source.open("rb", buffering=0) as stream, tempfile.TemporaryFile(dir=folder) as target:
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(stream.fileno(), 0, _TRIAL_BYTES, os.POSIX_FADV_DONTNEED)
        began = time.perf_counter()
        while piece := stream.read(_PIECE_BYTES):
            done += target.write(piece)
            if done >= _TRIAL_BYTES or time.perf_counter() - began > _TRIAL_SECONDS:
                break
        return max(1.0, done / max(1e-6, time.perf_counter() - began))


def _buffers(plan: MergePlan) -> int:
    """What is read, the sum, the change and what is stored, of one chunk for each thread."""
    largest = max((chunk_rows(t) * matrix_shape(t.shape)[1] for t in plan.tensors), default=0)
    return NUM_THREADS * largest * (4 + 4 + 4 + 4)


def _factors(plan: MergePlan) -> int:
    """The most that the factors of the matrices in hand take in float32."""
    pending: deque[int] = deque(maxlen=MAX_PENDING + 1)
    most = 0
    for number, tensor in enumerate(plan.tensors):
        for _ in _works(tensor):
            pending.append(number)
            most = max(most, sum(_factor_bytes(plan.tensors[one]) for one in set(pending)))
            if len(pending) == pending.maxlen and len(set(pending)) == 1:
                break
    return most


def _works(tensor: OutputTensor) -> Iterator[int]:
    yield from range(0, matrix_shape(tensor.shape)[0], work_rows(tensor))


def _factor_bytes(tensor: OutputTensor) -> int:
    return 4 * sum(
        prod(part.shape)
        for step in tensor.steps
        if isinstance(step, Addition)
        for part in (step.a, step.b)
    )


def _resident_bytes() -> int:
    """The most this program has had in memory so far; macOS counts in bytes, others in KiB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
