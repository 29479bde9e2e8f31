"""Carry a plan out: a few rows at a time, in as many threads as pay, file after file."""

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from hanpaca.checkpoints.dtypes import DTYPES
from hanpaca.checkpoints.rows import OpenFiles, Workspace, read_exactly, read_rows, to_interleaved
from hanpaca.checkpoints.tensors import Extent, matrix_shape
from hanpaca.merging.fold import (
    LoadedAddition,
    fold_rows,
    load_additions,
    one_thread_each,
    rounded,
)
from hanpaca.merging.outputs import OutputTensor, Overlay, chunk_rows
from hanpaca.merging.shards import Prepare, Shards, Slice

PARTIAL = ".partial"
_CHUNKS = 4
"""Of one piece of work."""
MAX_PENDING = 16
"""Pieces of work handed out ahead; they keep the factors of their matrices in memory."""


@dataclass(frozen=True)
class _Work:
    """Some rows of a slice, to be computed and written."""

    part: Slice
    extent: Extent
    descriptor: int
    loaded: Mapping[int, LoadedAddition]
    rows: range
    chunk_rows: int
    measure: bool

    def chunks(self) -> Iterator[range]:
        """The rows to be computed at a time."""
        for start in range(self.rows.start, self.rows.stop, self.chunk_rows):
            yield range(start, min(start + self.chunk_rows, self.rows.stop))


def write_shards(
    shards: Shards,
    folder: Path,
    *,
    prepare: Prepare,
    seal: Callable[[Path], None],
    measure: bool,
    num_threads: int,
    on_bytes: Callable[[int], None],
) -> dict[str, float]:
    """Write every file that is not there yet; one that is not whole has a name of its own.

    Args:
        shards: What to write.
        folder: Exists.
        prepare: Makes an empty file of the right format.
        seal: Ends a file once its data is there.
        measure: Find the largest change of an element in each changed tensor, which takes a
            second pass over the base's.
        num_threads: Each has buffers of a few MiB.
        on_bytes: Called with the number of bytes just written.

    Returns:
        The largest changes, by tensor; of the files that were written now.

    Raises:
        ArtifactError: A file that is read is damaged, or a result is not finite in its type.
        OSError: A file cannot be written.
    """
    largest: dict[str, float] = {}

    def finish(work: _Work, result: Future[float]) -> None:
        name = work.part.tensor.name
        if work.measure:
            largest[name] = max(largest.get(name, 0.0), result.result())
        result.result()
        on_bytes(len(work.rows) * work.extent.row_bytes)

    with OpenFiles() as files, one_thread_each():
        local = threading.local()

        def run(work: _Work) -> float:
            if not hasattr(local, "workspace"):
                local.workspace = Workspace()
            return max(_run(work, rows, files, local.workspace) for rows in work.chunks())

        for name, slices in shards.items():
            if (folder / name).exists():
                on_bytes(sum(part.num_bytes for part in slices))
                continue
            partial = folder / f"{name}{PARTIAL}"
            extents = prepare(partial, slices)
            # Whatever ends this waits for the threads before the file is closed.
            with _writable(partial) as descriptor, ThreadPoolExecutor(num_threads) as pool:
                works = _cut(zip(slices, extents, strict=True), descriptor, files, measure)
                for work, result in _ahead(pool, run, works):
                    finish(work, result)
            seal(partial)
            partial.rename(folder / name)
    return largest


def _ahead(
    pool: ThreadPoolExecutor, run: Callable[[_Work], float], works: Iterable[_Work]
) -> Iterator[tuple[_Work, Future[float]]]:
    """Hand work out ahead of who waits for it, and give it back in order."""
    pending: deque[tuple[_Work, Future[float]]] = deque()
    for work in works:
        pending.append((work, pool.submit(run, work)))
        if len(pending) > MAX_PENDING:
            yield pending.popleft()
    while pending:
        yield pending.popleft()


def _cut(
    parts: Iterable[tuple[Slice, Extent]], descriptor: int, files: OpenFiles, measure: bool
) -> Iterator[_Work]:
    """Pieces of work; the factors of a matrix are read when its first piece is asked for."""
    for part, extent in parts:
        steps = part.tensor.steps
        loaded = load_additions(steps, files)
        chunk = chunk_rows(part.tensor, part.head_rows)
        step = work_rows(part.tensor, part.head_rows)
        measured = measure and part.tensor.changed
        for start in range(part.rows.start, part.rows.stop, step) if part.num_bytes else ():
            rows = range(start, min(start + step, part.rows.stop))
            yield _Work(part, extent, descriptor, loaded, rows, chunk, measured)


def work_rows(tensor: OutputTensor, head_rows: int = 0) -> int:
    """How many rows are handed to a thread at a time."""
    return chunk_rows(tensor, head_rows) * _CHUNKS


def _run(work: _Work, rows: range, files: OpenFiles, workspace: Workspace) -> float:
    """Returns the largest change of an element, where that is asked for."""
    part, tensor = work.part, work.part.tensor
    num_columns = matrix_shape(tensor.shape)[1]
    if (source := _plain_copy(part)) is not None:
        copied = workspace.take("read", DTYPES[source.dtype], (len(rows), num_columns))
        read_exactly(files, copied, source, rows.start)
        _write(work, rows, copied)
        return 0.0
    result = fold_rows(
        tensor.steps, work.loaded, rows, num_columns, files=files, workspace=workspace
    )
    if part.head_rows:
        result = to_interleaved(result, part.head_rows)
    columns = result[:, part.columns.start : part.columns.stop]
    stored = rounded(columns, tensor.dtype, tensor.name, workspace)
    _write(work, rows, stored)
    return _largest_change(work, rows, stored, files, workspace) if work.measure else 0.0


def _plain_copy(part: Slice) -> Extent | None:
    """The extent a slice is an unchanged piece of, if it is."""
    steps = part.tensor.steps
    if part.tensor.changed or len(steps) != 1 or not isinstance(steps[0], Overlay):
        return None
    stored = steps[0].stored
    num_columns = matrix_shape(part.tensor.shape)[1]
    one = len(stored.extents) == 1 and len(part.columns) == num_columns
    same_order = stored.head_rows == part.head_rows
    plain = one and same_order and not stored.extents[0].encoding
    return stored.extents[0] if plain and DTYPES[stored.dtype] is part.dtype else None


def _write(work: _Work, rows: range, data: Tensor) -> None:
    buffer = data.view(torch.uint8).view(-1).numpy().data
    at = work.extent.offset + (rows.start - work.extent.rows.start) * work.extent.row_bytes
    while buffer:
        count = os.pwrite(work.descriptor, buffer, at)
        buffer, at = buffer[count:], at + count


def _largest_change(
    work: _Work, rows: range, stored: Tensor, files: OpenFiles, workspace: Workspace
) -> float:
    """Against the first step, which gives the base's rows; new rows are compared with nothing."""
    first = work.part.tensor.steps[0]
    before = workspace.take("before", torch.float32, (len(rows), stored.shape[1]))
    before.copy_(stored)
    after = workspace.take("result", torch.float32, (len(rows), stored.shape[1]))
    after.copy_(stored)
    if isinstance(first, Overlay):
        read_rows(first.stored, rows, before, files=files, workspace=workspace)
    return float(after.sub_(before).abs_().max())


@contextmanager
def _writable(file: Path) -> Iterator[int]:
    descriptor = os.open(file, os.O_WRONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
