"""Rows of JSON, CSV and parquet files; JSON in a list or one a line, whatever the name says."""

import codecs
import csv
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

from hanpaca.data.files import TextFile, json_file, suffix_of
from hanpaca.data.json_list import ADVICE, parse_row, read_list
from hanpaca.data.lines import MAX_ROW_CHARACTERS, read_lines, read_text_blocks, whole_lines
from hanpaca.data.parquet import read_parquet_rows
from hanpaca.errors import DataError

_PEEKED_LINES = 64


def read_rows(path: Path, *, encoding: str) -> Iterator[tuple[str, Any]]:
    """Yield each row with its place: `file:line` of JSON lines, else `file:number`, from 1.

    A row that is no JSON comes as the `DataError` that says so, for the caller to raise or skip. No
    more than one row and a block of the file is held, however long the file.

    Args:
        path: A JSON list, JSON lines, CSV with a header, or parquet; may be packed.
        encoding: Of files that are not UTF-8, as JSON should be, by its Python name.

    Raises:
        DataError: The file is missing, damaged, in another encoding, or no list as a whole.
        ResourceError: The file needs a package that is not installed.
    """
    file = json_file(path)
    match suffix_of(path):
        case ".parquet":
            yield from read_parquet_rows(file, tell=_ignore)
        case ".csv":
            yield from _csv_rows(file, _encoding_of(file, encoding))
        case suffix:
            yield from _json_rows(file, suffix == ".json", _encoding_of(file, encoding))


def _ignore(_: int) -> None:
    """Tell nobody."""


def _encoding_of(file: TextFile, encoding: str) -> str:
    """JSON is UTF-8 by its standard: other bytes hardly ever pass for it."""
    try:
        same = codecs.lookup(encoding).name == "utf-8"
    except (LookupError, ValueError):
        return encoding  # told where it is read
    if same:
        return encoding
    try:
        for _ in read_text_blocks(file, encoding="utf-8"):
            pass
    except DataError:
        return encoding
    return "utf-8"


def _json_rows(file: TextFile, named_list: bool, encoding: str) -> Iterator[tuple[str, Any]]:
    blocks = read_text_blocks(file, encoding=encoding)
    kept: list[str] = []
    for block in blocks:
        kept.append(block)
        if not block.isspace():
            break
    start = "".join(kept).lstrip()
    if start.startswith("[") and (named_list or not _is_lines(start, "[")):
        yield from read_list(chain(kept, blocks), file.path)
    elif named_list and not _is_lines(start, "{"):
        raise _no_list(start, next(blocks, ""), file.path)
    else:
        lines = read_lines(file, encoding=encoding, tell=_ignore)
        for number, line in whole_lines(file, lines):
            if line.strip():
                yield f"{file.path}:{number}", parse_row(line, f"{file.path}:{number}")


def _is_lines(text: str, bracket: str) -> bool:
    """Tell JSON lines by two lines, the first of them whole; a list on one line has no second."""
    if not text.startswith(bracket):
        return False
    filled = [line for line in islice(text.split("\n"), _PEEKED_LINES) if line.strip()]
    return len(filled) > 1 and isinstance(parse_row(filled[0], ""), dict | list)


def _no_list(start: str, more: str, path: Path) -> DataError:
    """Say what a file is that is named as a list and is none."""
    found = {} if more and start.startswith("{") else parse_row(start, str(path))
    if isinstance(found, DataError):
        return found
    return DataError(f"{path}: a list of rows is needed, not {type(found).__name__}")


def _csv_rows(file: TextFile, encoding: str) -> Iterator[tuple[str, Any]]:
    """Rows by the names in the first line; places count rows, as a text may hold line ends."""
    lines = whole_lines(file, read_lines(file, encoding=encoding, tell=_ignore))
    before = csv.field_size_limit(MAX_ROW_CHARACTERS)
    number = 0
    try:
        table = csv.DictReader((f"{line}\n" for _, line in lines), strict=True)
        for number, row in enumerate(table, start=1):
            place = f"{file.path}:{number}"
            if None in row:
                told = f"{place}: more values than the {len(table.fieldnames or ())} columns"
                yield place, DataError(told, ADVICE)
            else:
                yield place, row
    except csv.Error as error:
        raise DataError(f"{file.path}:{number + 1}: not CSV: {error}", ADVICE) from error
    finally:
        csv.field_size_limit(before)
