"""Rows of a file of questions: CSV with or without a header, JSON lines, or a JSON list."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hanpaca.data.files import json_file, suffix_of
from hanpaca.data.lines import read_text_blocks
from hanpaca.data.rows import read_rows
from hanpaca.errors import DataError

_LEAST_CELLS = 4
"""Of a row: question, two options, answer."""
_OTHER_SEPARATORS = {";": "semicolons", "\t": "tabs"}


def question_rows(path: Path, *, encoding: str) -> Iterator[tuple[str, Any]]:
    """Yield each row with its place; one that cannot be read comes as the `DataError` it is.

    Raises:
        DataError: The file is missing, damaged, or in another encoding.
    """
    if suffix_of(path) == ".csv":
        return _csv_rows(path, encoding)
    return read_rows(path, encoding=encoding)


def _csv_rows(path: Path, encoding: str) -> Iterator[tuple[str, Any]]:
    text = "".join(read_text_blocks(json_file(path), encoding=encoding))
    # No library of tables: those make an option `NA` a missing value.
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: list[str] | None = None
    while True:
        place = f"{path}:{reader.line_num + 1}"
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise DataError(f"{place}: not CSV: {error}") from error
        if cells is None:
            return
        if not any(cell.strip() for cell in cells):
            continue
        if header is None:
            _check_commas(cells, place)
            if {cell.strip().lower() for cell in cells} & {"question", "answer"}:
                header = cells
                continue
            header = _positions(cells)
        yield place, _row(cells, header, place)


def _check_commas(cells: list[str], place: str) -> None:
    """A first row that is one cell, of what another program takes for several."""
    for sign, name in _OTHER_SEPARATORS.items():
        if len(cells) == 1 and cells[0].count(sign) >= _LEAST_CELLS - 1:
            raise DataError(f"{place}: cells are separated by {name}", "save it with commas")


def _positions(cells: list[str]) -> list[str]:
    """Of a file without a header, as MMLU's: question, options, answer."""
    options = [chr(ord("A") + at) for at in range(len(cells) - 2)]
    return ["question", *options, "answer"] if len(cells) >= _LEAST_CELLS else ["question"]


def _row(cells: list[str], header: list[str], place: str) -> dict[str, str] | DataError:
    if len(cells) != len(header):
        found = f"{place}: {len(cells)} cells, where the first row has {len(header)}"
        return DataError(found, "mend the row, or set {skip_bad_rows} to leave it out")
    return dict(zip(header, cells, strict=True))
