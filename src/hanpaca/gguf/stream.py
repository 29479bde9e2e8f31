"""Rows of tensors through the kernels into several files at once.

Every row is read once, whatever the number of files; every core works on rows of its own.
"""

import math
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from gguf.constants import GGMLQuantizationType as Type
from numpy.typing import NDArray

from hanpaca.checkpoints.gguf_names import to_interleaved
from hanpaca.errors import ArtifactError
from hanpaca.gguf.kernels import Bytes, Rows, quantize
from hanpaca.gguf.types import num_bytes

_CHUNK_ELEMENTS = 1 << 18
"""Read at a time by each thread: 1 MiB in float32, which stays in a core's own cache."""
_LARGEST = {Type.F32: math.inf, Type.BF16: 3.3895314e38}
_LARGEST_HALF = 65_504.0
"""Of a half-precision number, which F16 and the scales of all quantized types are."""


@dataclass(frozen=True)
class SourceTensor:
    """A weight under its Hugging Face name, read when its turn comes."""

    name: str
    shape: tuple[int, ...]
    read: Callable[[int, int], Rows]
    """Rows [start, stop) of the tensor seen as a matrix (a vector has one column); any thread."""
    block_rows: int = 1
    """Ranges that begin at multiples of it waste nothing."""


@dataclass(frozen=True)
class Part:
    """A tensor on its way into every file."""

    source: SourceTensor
    name: str
    """In the files."""
    kinds: tuple[Type, ...]
    """File by file."""
    head_rows: int
    """Rows of an attention head, if they are to be interleaved; else 0."""
    importance: NDArray[np.float32] | None

    @property
    def matrix(self) -> tuple[int, int]:
        """Rows and columns; a vector has one column."""
        shape = self.source.shape
        return (shape[0], shape[1]) if len(shape) == 2 else (shape[0], 1)

    def chunks(self) -> Iterator[range]:
        """The rows to be read at a time: whole heads where heads are reordered."""
        num_rows, columns = self.matrix
        unit = self.head_rows or self.source.block_rows
        step = max(1, _CHUNK_ELEMENTS // columns // unit) * unit
        for start in range(0, num_rows, step):
            yield range(start, min(start + step, num_rows))


@dataclass(frozen=True)
class Target:
    """An open file and where the data of each part begins in it."""

    descriptor: int
    offsets: Sequence[int]


def write_parts(
    parts: Sequence[Part], targets: Sequence[Target], *, on_bytes: Callable[[int], None]
) -> None:
    """Write the data of all parts to all files.

    Args:
        parts: In order of their reading.
        targets: As many as each part has kinds.
        on_bytes: Called with the number of bytes just written to all files together.

    Raises:
        ArtifactError: Values are not finite, or too large for a type; names the tensor.
        OSError: A file cannot be written.
    """
    num_threads = os.cpu_count() or 1
    pending: deque[Future[int]] = deque()
    with ThreadPoolExecutor(num_threads) as pool:
        for number, part in enumerate(parts):
            for rows in part.chunks():
                pending.append(pool.submit(_write_chunk, part, number, rows, targets))
                if len(pending) > 2 * num_threads:
                    on_bytes(pending.popleft().result())
        while pending:
            on_bytes(pending.popleft().result())


def _write_chunk(part: Part, number: int, rows: range, targets: Sequence[Target]) -> int:
    values = part.source.read(rows.start, rows.stop)
    _check_range(values, part)
    if part.head_rows:
        values = to_interleaved(values, len(rows) // part.head_rows)
    made: dict[Type, Bytes] = {}
    written = 0
    for target, kind in zip(targets, part.kinds, strict=True):
        if kind not in made:
            made[kind] = quantize(values, kind, part.importance)
        row_bytes = num_bytes((part.matrix[1],), kind)
        _write(target.descriptor, made[kind], target.offsets[number] + rows.start * row_bytes)
        written += made[kind].nbytes
    return written


def _check_range(values: Rows, part: Part) -> None:
    largest = max(float(values.max()), -float(values.min()))
    name = part.source.name
    if not np.isfinite(largest):
        raise ArtifactError(f"tensor {name} holds NaN or infinite values: the model is broken")
    for kind in part.kinds:
        if largest > _LARGEST.get(kind, _LARGEST_HALF):
            other = "f32" if kind == Type.BF16 else "bf16 or f32"
            raise ArtifactError(
                f"tensor {name} holds {largest:g}, which {kind.name} cannot: choose {other}"
            )


def _write(descriptor: int, data: Bytes, at: int) -> None:
    buffer = data.data.cast("B")
    while buffer:
        count = os.pwrite(descriptor, buffer, at)
        buffer, at = buffer[count:], at + count
