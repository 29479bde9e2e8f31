"""Reading rows of tensors on disk, wherever they lie, into buffers that are used again."""

import math
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import torch
from torch import Tensor

from hanpaca.checkpoints import direct
from hanpaca.checkpoints.dtypes import DTYPES
from hanpaca.checkpoints.gguf_values import decode
from hanpaca.checkpoints.tensors import Extent, Stored, matrix_shape
from hanpaca.errors import ArtifactError

_BLOCK_ELEMENTS = 1 << 20
"""Read at a time."""


class TensorRows(Protocol):
    """A tensor whose rows can be asked for, of a model on disk or of one that is only planned.

    It is seen as a matrix; a vector has one column.
    """

    @property
    def name(self) -> str:
        """In Hugging Face's files."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the tensor."""

    @property
    def dtype(self) -> torch.dtype:
        """In which it is stored, or would be."""

    @property
    def block_rows(self) -> int:
        """Rows read at a time: ranges that begin and end at multiples of it waste nothing."""

    def read(self, start: int, stop: int) -> Tensor:
        """Some rows in float32: (stop - start, columns). Any thread may call this.

        Raises:
            ArtifactError: What is read is damaged, or a value is not finite.
        """


class OpenFiles:
    """The files that are read, opened at first use; any thread may read."""

    def __init__(self) -> None:
        self.stack, self.lock = ExitStack(), threading.Lock()
        self.descriptors: dict[Path, tuple[int, int | None]] = {}
        self.local = threading.local()

    def read(self, file: Path, buffer: memoryview, at: int) -> int:
        """Fill the beginning of a buffer from a place in a file; returns the bytes there were."""
        ordinary, past_cache = self._opened(file)
        if past_cache is None or len(buffer) < direct.MIN_BYTES:
            return os.preadv(ordinary, [buffer], at)
        if not hasattr(self.local, "window"):
            self.local.window = direct.Window()
        window: direct.Window = self.local.window
        return window.read(past_cache, buffer, at)

    def _opened(self, file: Path) -> tuple[int, int | None]:
        with self.lock:
            if file not in self.descriptors:
                descriptor = os.open(file, os.O_RDONLY)
                self.stack.callback(os.close, descriptor)
                past_cache = direct.open_direct(file, descriptor)
                if past_cache is not None:
                    self.stack.callback(os.close, past_cache)
                self.descriptors[file] = descriptor, past_cache
            return self.descriptors[file]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stack.close()


class Workspace:
    """The buffers of one thread: they grow to the largest chunk and are used again."""

    def __init__(self) -> None:
        self.buffers: dict[str, Tensor] = {}

    def take(self, use: str, dtype: torch.dtype, shape: tuple[int, int]) -> Tensor:
        """Uninitialised memory; what was taken for the same use before is no longer valid."""
        num_bytes = math.prod(shape) * dtype.itemsize
        if use not in self.buffers or len(self.buffers[use]) < num_bytes:
            self.buffers[use] = torch.empty(num_bytes, dtype=torch.uint8)
        return self.buffers[use][:num_bytes].view(dtype).view(shape)


@dataclass(frozen=True)
class OpenTensor:
    """A tensor of a model on disk, with its values as they are; see `TensorRows`."""

    name: str
    stored: Stored
    files: OpenFiles = field(repr=False)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the tensor."""
        return self.stored.shape

    @property
    def dtype(self) -> torch.dtype:
        """In which it is stored; of quantized ones, the type they count as."""
        return DTYPES[self.stored.dtype]

    @property
    def block_rows(self) -> int:
        """Rows read at a time: whole heads where heads are reordered."""
        unit = self.stored.head_rows or 1
        columns = max(1, matrix_shape(self.shape)[1])
        return max(1, _BLOCK_ELEMENTS // columns // unit) * unit

    def read(self, start: int, stop: int) -> Tensor:
        """Some rows in float32, exactly.

        Raises:
            ArtifactError: The file became shorter, or holds NaN or infinite values.
        """
        num_rows, num_columns = matrix_shape(self.shape)
        unit, workspace = self.stored.head_rows or 1, Workspace()
        first, last = start - start % unit, min(-(-stop // unit) * unit, num_rows)
        result = torch.empty(last - first, num_columns)
        for begin in range(first, last, self.block_rows):
            rows = range(begin, min(begin + self.block_rows, last))
            block = result[begin - first : rows.stop - first]
            read_rows(self.stored, rows, block, files=self.files, workspace=workspace)
            if not math.isfinite(float(block.sum())) and not bool(block.isfinite().all()):
                raise ArtifactError(
                    f"{self.stored.file}: {self.name} holds NaN or infinite values: it "
                    "is damaged; download it again"
                )
        return result[start - first : stop - first]


@contextmanager
def open_rows(tensors: Mapping[str, Stored]) -> Iterator[dict[str, OpenTensor]]:
    """Give tensors on disk by their names, to be read a few rows at a time."""
    with OpenFiles() as files:
        yield {name: OpenTensor(name, stored, files) for name, stored in tensors.items()}


def read_all(stored: Stored, files: OpenFiles) -> Tensor:
    """A whole small tensor in float32, in its own shape."""
    num_rows, num_columns = matrix_shape(stored.shape)
    result = torch.empty(num_rows, num_columns)
    read_rows(stored, range(num_rows), result, files=files, workspace=Workspace())
    return result.view(stored.shape)


def read_rows(
    stored: Stored, rows: range, result: Tensor, *, files: OpenFiles, workspace: Workspace
) -> None:
    """Write what `stored` has of `rows` into the result, as float32; leave the other rows."""
    for extent in stored.extents:
        start, stop = max(rows.start, extent.rows.start), min(rows.stop, extent.rows.stop)
        if start >= stop or not extent.columns:
            continue
        width = extent.encoding.row_bytes if extent.encoding else len(extent.columns)
        kind = torch.uint8 if extent.encoding else DTYPES[extent.dtype]
        part = workspace.take("read", kind, (stop - start, width))
        read_exactly(files, part, extent, start)
        if extent.encoding:
            part = decode(extent.encoding.kind, part)
        columns = slice(extent.columns.start, extent.columns.stop)
        result[start - rows.start : stop - rows.start, columns].copy_(part)
    if stored.head_rows:
        result.copy_(to_halves(result, stored.head_rows))


def read_exactly(files: OpenFiles, part: Tensor, extent: Extent, first_row: int) -> None:
    """Fill a tensor from an extent's rows on.

    Raises:
        ArtifactError: The file ends before.
    """
    buffer = part.view(torch.uint8).view(-1).numpy().data
    at = extent.offset + (first_row - extent.rows.start) * extent.row_bytes
    while buffer:
        try:
            count = files.read(extent.file, buffer, at)
        except OSError as error:
            raise ArtifactError(f"{extent.file}: cannot be read: {error.strerror}") from error
        if count == 0:
            raise ArtifactError(f"{extent.file}: became shorter while it was read")
        buffer, at = buffer[count:], at + count


def to_halves(rows: Tensor, head_rows: int) -> Tensor:
    """Reorder the rows of each head from Meta's interleaved pairs to two halves."""
    pairs = rows.view(-1, head_rows // 2, 2, rows.shape[1])
    return pairs.transpose(1, 2).reshape(rows.shape)


def to_interleaved(rows: Tensor, head_rows: int) -> Tensor:
    """Undo `to_halves`."""
    halves = rows.view(-1, 2, head_rows // 2, rows.shape[1])
    return halves.transpose(1, 2).reshape(rows.shape)
