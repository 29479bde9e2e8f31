"""Where the rows of a tensor lie on disk: in one file or several, in whole rows or in part.

Everything is seen as a matrix; a vector of n is n rows of one column.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

import torch
from torch import Tensor

from hanpaca.model.checkpoint import TensorInfo


@dataclass(frozen=True)
class Encoding:
    """Rows of another number of bytes than their elements would take: quantized ones."""

    row_bytes: int
    decode: Callable[[Tensor], Tensor]
    """From bytes (rows, row_bytes) to float32 (rows, columns)."""


@dataclass(frozen=True)
class Extent:
    """A block of a matrix that lies row after row in one file."""

    file: Path
    offset: int
    """Of the first byte, from the beginning of the file."""
    dtype: torch.dtype
    """Of the data; of encoded rows the type they are to be stored in when decoded."""
    rows: range
    """Which rows of the whole matrix these are."""
    columns: range
    encoding: Encoding | None = None

    @property
    def row_bytes(self) -> int:
        """Bytes from one row to the next."""
        if self.encoding is not None:
            return self.encoding.row_bytes
        return len(self.columns) * self.dtype.itemsize

    @property
    def num_bytes(self) -> int:
        """Size of the data."""
        return len(self.rows) * self.row_bytes


@dataclass(frozen=True)
class Stored:
    """A tensor on disk. Where extents overlap, the later one counts."""

    shape: tuple[int, ...]
    extents: tuple[Extent, ...]
    head_rows: int = 0
    """Rows of an attention head, where each head's rows are interleaved pairs (Meta's order);
    0 where they are two halves (Hugging Face's order) or the matrix has no heads."""

    @property
    def dtype(self) -> torch.dtype:
        """Type of the data."""
        return self.extents[0].dtype


def matrix_shape(shape: tuple[int, ...]) -> tuple[int, int]:
    """Rows and columns of a tensor seen as a matrix.

    >>> matrix_shape((5,)), matrix_shape((2, 3, 4))
    ((5, 1), (6, 4))
    """
    return (prod(shape[:-1]), shape[-1]) if len(shape) > 1 else (prod(shape), 1)


def whole(file: Path, offset: int, dtype: torch.dtype, shape: tuple[int, ...]) -> Stored:
    """A tensor that lies in one file, all in one go."""
    rows, columns = matrix_shape(shape)
    return Stored(shape, (Extent(file, offset, dtype, range(rows), range(columns)),))


def locate(headers: Mapping[str, TensorInfo]) -> dict[str, Stored]:
    """Where the tensors of safetensors files lie.

    Relies on what reading the headers has checked: the tensors of a file lie back to back, in the
    order of the headers, and end where the file ends.
    """
    ends: dict[Path, int] = {}
    found: dict[str, Stored] = {}
    for name, info in reversed(list(headers.items())):
        end = ends.setdefault(info.file, info.file.stat().st_size)
        ends[info.file] = end - info.num_bytes
        found[name] = whole(info.file, ends[info.file], info.dtype, info.shape)
    return {name: found[name] for name in headers}
