"""Rows of a parquet file, or the texts of one column, a few at a time."""

import tempfile
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from hanpaca.data.files import UNREADABLE, TextFile, damage, read_blocks
from hanpaca.errors import DataError, ResourceError

if TYPE_CHECKING:
    import pyarrow

_BATCH_ROWS = 256
# Left to itself, pyarrow holds a whole row group of the column: 467 MB of file took 674 MB.
_BUFFER_BYTES = 1 << 20


def read_parquet(
    file: TextFile, *, text_field: str, tell: Callable[[int], None]
) -> Iterator[tuple[int, str]]:
    """Yield the text of each row with the row's number, from 1.

    Only this column is read, batch by batch. A packed file is unpacked to a temporary one first,
    because a parquet file has its directory at its end.

    Args:
        file: what to read.
        text_field: name of the column.
        tell: called with the number of bytes read from disk so far (for an unpacked file, the
            share of the rows, in bytes).

    Raises:
        DataError: The file is damaged, or has no such column of text.
        ResourceError: pyarrow is not installed.
    """
    for first, batch in _batches(file, tell, text_field):
        for row, value in enumerate(_values(file, first, batch.column(0)), start=first):
            yield row, _text(file, row, value, text_field)


def read_parquet_rows(
    file: TextFile, *, tell: Callable[[int], None]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each row, by the names of all columns, with its place: `file:number`, from 1.

    Args:
        file: what to read.
        tell: as for `read_parquet`.

    Raises:
        DataError: The file is damaged.
        ResourceError: pyarrow is not installed.
    """
    for first, batch in _batches(file, tell, None):
        columns = [list(_values(file, first, column)) for column in batch.columns]
        for row, values in enumerate(zip(*columns, strict=True), start=first):
            yield f"{file.path}:{row}", dict(zip(batch.schema.names, values, strict=True))


def _batches(
    file: TextFile, tell: Callable[[int], None], text_field: str | None
) -> Iterator[tuple[int, "pyarrow.RecordBatch"]]:
    """Batches of rows, each with the number of its first; of one column of text, or of all."""
    try:
        import pyarrow
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise ResourceError(
            "reading .parquet needs one more package: pip install pyarrow"
        ) from error
    row = 0
    try:
        with tempfile.TemporaryFile() if file.compression else file.path.open("rb") as stream:
            if file.compression:
                for block in read_blocks(file, tell):
                    stream.write(block)
                stream.seek(0)
            table = ParquetFile(stream, buffer_size=_BUFFER_BYTES, pre_buffer=False)
            if text_field is not None:
                _check_column(file, table.schema_arrow, text_field)
            columns = None if text_field is None else [text_field]
            for batch in table.iter_batches(_BATCH_ROWS, columns=columns):
                yield row + 1, batch
                row += batch.num_rows
                if not file.compression:
                    tell(file.num_bytes * row // table.metadata.num_rows)
    except pyarrow.ArrowException as error:
        raise _damaged(file, row + 1, error) from error
    except UNREADABLE as error:
        raise DataError(f"{file.path}:{row + 1}: {damage(error, file.compression)}") from error


def _values(file: TextFile, first: int, column: Iterable[Any]) -> Iterator[Any]:
    row = first
    try:
        for value in column:
            yield value.as_py()
            row += 1
    except UnicodeDecodeError as error:
        raise _damaged(file, row, error) from error


def _damaged(file: TextFile, row: int, error: Exception) -> DataError:
    reason = str(error).split("\n")[0]
    return DataError(
        f"{file.path}:{row}: this parquet file is damaged ({reason}); copy or download it again"
    )


def _check_column(file: TextFile, schema: "pyarrow.Schema", text_field: str) -> None:
    from pyarrow import types

    if text_field not in schema.names:
        raise DataError(
            f"{file.path}:1: no column {text_field!r} (found: {', '.join(sorted(schema.names))})",
            "give {text_field}",
        )
    kind = schema.field(text_field).type
    if types.is_dictionary(kind):
        kind = kind.value_type
    if not (types.is_string(kind) or types.is_large_string(kind)):
        raise DataError(
            f"{file.path}:1: column {text_field!r} holds {kind}, not text",
            "give {text_field}",
        )


def _text(file: TextFile, row: int, value: object, text_field: str) -> str:
    if not isinstance(value, str):
        raise DataError(
            f"{file.path}:{row}: no text in column {text_field!r}; fill it or drop the row"
        )
    return value
