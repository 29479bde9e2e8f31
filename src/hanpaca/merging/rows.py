"""The rows of a merged model without writing it: for what goes on to another format at once."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from hanpaca.checkpoints.rows import OpenFiles, Workspace
from hanpaca.checkpoints.tensors import matrix_shape
from hanpaca.merging.fold import (
    LoadedAddition,
    fold_rows,
    load_additions,
    one_thread_each,
    rounded,
)
from hanpaca.merging.outputs import OutputTensor, chunk_rows

_KEPT = 16
"""Tensors whose factors stay in memory: as many as the merge itself has in hand."""


@dataclass
class _Reader:
    """What the tensors of one merge share."""

    files: OpenFiles
    loaded: dict[str, dict[int, LoadedAddition]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)
    local: threading.local = field(default_factory=threading.local)

    def factors(self, tensor: OutputTensor) -> dict[int, LoadedAddition]:
        with self.lock:
            found = self.loaded.pop(tensor.name, None)
            if found is None:
                found = load_additions(tensor.steps, self.files)
            self.loaded[tensor.name] = found  # the last asked for is the last to go
            while len(self.loaded) > _KEPT:
                del self.loaded[next(iter(self.loaded))]
            return found

    def workspace(self) -> Workspace:
        if not hasattr(self.local, "workspace"):
            self.local.workspace = Workspace()
        workspace: Workspace = self.local.workspace
        return workspace


@dataclass(frozen=True)
class MergedTensor:
    """A tensor of the merged model, under its Hugging Face name."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    """In which `run_merge` would store it."""
    block_rows: int
    """Rows computed at a time: ranges that begin and end at multiples of it waste nothing."""
    _tensor: OutputTensor = field(repr=False)
    _reader: _Reader = field(repr=False)

    def read(self, start: int, stop: int) -> Tensor:
        """Rows of the tensor seen as a matrix (a vector has one column), as float32.

        They have the values `run_merge` would store, bit for bit. Any thread may call this.

        Raises:
            ArtifactError: What is read is damaged, or a value is not finite in `dtype`.
        """
        return self._rows(range(start, stop), torch.float32)

    def stored(self, start: int, stop: int) -> Tensor:
        """Rows as `read` gives them, in `dtype`."""
        return self._rows(range(start, stop), self.dtype)

    def _rows(self, wanted: range, dtype: torch.dtype) -> Tensor:
        num_rows, num_columns = matrix_shape(self.shape)
        result = torch.empty(len(wanted), num_columns, dtype=dtype)
        workspace = self._reader.workspace()
        loaded = self._reader.factors(self._tensor)
        # Always the same blocks: what a product's row is may depend on how many are computed.
        first = wanted.start - wanted.start % self.block_rows
        for begin in range(first, wanted.stop, self.block_rows):
            rows = range(begin, min(begin + self.block_rows, num_rows))
            folded = fold_rows(
                self._tensor.steps,
                loaded,
                rows,
                num_columns,
                files=self._reader.files,
                workspace=workspace,
            )
            block = rounded(folded, self.dtype, self.name, workspace)
            start, stop = max(wanted.start, rows.start), min(wanted.stop, rows.stop)
            result[start - wanted.start : stop - wanted.start] = block[start - begin : stop - begin]
        return result


class _Planned(Protocol):
    """A `MergePlan`, which is made with the help of this module."""

    @property
    def tensors(self) -> Sequence[OutputTensor]: ...


@contextmanager
def merged_rows(plan: _Planned) -> Iterator[list[MergedTensor]]:
    """Give every tensor of a planned merge, to be read a few rows at a time.

    Each file is opened once; torch works in the calling thread alone until the context ends.
    """
    with rows_of(plan.tensors) as tensors:
        yield tensors


@contextmanager
def rows_of(tensors: Sequence[OutputTensor]) -> Iterator[list[MergedTensor]]:
    """Give planned tensors, to be read a few rows at a time; see `merged_rows`."""
    with OpenFiles() as files, one_thread_each():
        reader = _Reader(files)
        yield [
            MergedTensor(one.name, one.shape, one.dtype, chunk_rows(one), one, reader)
            for one in tensors
        ]
