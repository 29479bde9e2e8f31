"""Where the rows of a tensor lie on disk: in one file or several, in whole rows or in part.

Everything is seen as a matrix; a vector of n is n rows of one column. Nothing here needs torch.
"""

from dataclasses import dataclass
from math import prod
from pathlib import Path

from hanpaca.errors import ArtifactError

ELEMENT_BYTES = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 1),
    **dict.fromkeys(("I16", "U16", "F16", "BF16"), 2),
    **dict.fromkeys(("I32", "U32", "F32"), 4),
    **dict.fromkeys(("I64", "U64", "F64", "C64"), 8),
}
"""Types, as safetensors names them."""
_MAX_DIMENSIONS = 8
_MAX_SIZE = 1 << 48


@dataclass(frozen=True)
class Encoding:
    """Rows of another number of bytes than their elements would take: quantized ones."""

    kind: str
    """As GGUF names it: Q4_K."""
    row_bytes: int


@dataclass(frozen=True)
class Extent:
    """A block of a matrix that lies row after row in one file."""

    file: Path
    offset: int
    """Of the first byte, from the beginning of the file."""
    dtype: str
    """Of the data, as safetensors names it; of encoded rows the type they count as."""
    rows: range
    """Which rows of the whole matrix these are."""
    columns: range
    encoding: Encoding | None = None

    @property
    def row_bytes(self) -> int:
        """Bytes from one row to the next."""
        if self.encoding is not None:
            return self.encoding.row_bytes
        return len(self.columns) * ELEMENT_BYTES[self.dtype]

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
    is_view: bool = False
    """Its elements do not lie one after the other, so that it cannot be read."""

    @property
    def dtype(self) -> str:
        """Type of the data."""
        return self.extents[0].dtype

    @property
    def kind(self) -> str:
        """The type by the name the file has for it, such as F16 or Q4_K."""
        encoding = self.extents[0].encoding
        return encoding.kind if encoding else self.dtype

    @property
    def file(self) -> Path:
        """That holds it, or its beginning."""
        return self.extents[0].file

    @property
    def num_parameters(self) -> int:
        """Number of elements."""
        return prod(self.shape)

    @property
    def num_bytes(self) -> int:
        """Size of the data."""
        return sum(extent.num_bytes for extent in self.extents)


def checked_shape(shape: object, what: str) -> tuple[int, ...]:
    """Return a shape whose product can be formed safely.

    Raises:
        ArtifactError: It is no list of at most 8 sizes; `what` says whose.
    """
    fits = isinstance(shape, list | tuple) and len(shape) <= _MAX_DIMENSIONS
    if not fits or not all(type(n) is int and 0 <= n < _MAX_SIZE for n in shape):  # type: ignore[attr-defined]
        raise ArtifactError(f"{what}: impossible shape {str(shape)[:60]}; download the file again")
    return tuple(shape)  # type: ignore[arg-type]


def matrix_shape(shape: tuple[int, ...]) -> tuple[int, int]:
    """Rows and columns of a tensor seen as a matrix.

    >>> matrix_shape((5,)), matrix_shape((2, 3, 4))
    ((5, 1), (6, 4))
    """
    return (prod(shape[:-1]), shape[-1]) if len(shape) > 1 else (prod(shape), 1)


def in_one_piece(
    file: Path,
    offset: int,
    shape: tuple[int, ...],
    *,
    dtype: str,
    encoding: Encoding | None = None,
    head_rows: int = 0,
) -> Stored:
    """A tensor that lies in one file, all in one go."""
    rows, columns = matrix_shape(shape)
    extent = Extent(file, offset, dtype, range(rows), range(columns), encoding)
    return Stored(shape, (extent,), head_rows)
