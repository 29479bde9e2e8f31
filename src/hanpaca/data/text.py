"""Documents from text files of any layout, as a stream."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from hanpaca.data.files import TextFile, text_files
from hanpaca.data.lines import MAX_CHARACTERS, read_lines
from hanpaca.data.parquet import read_parquet
from hanpaca.errors import DataError

_MAX_JSON_CHARACTERS = 32 * MAX_CHARACTERS


@dataclass(frozen=True)
class Document:
    """A piece of running text and where it comes from."""

    text: str
    source: str
    """`file:line` of its beginning; in a parquet file, `file:row`."""


def read_documents(
    paths: Sequence[Path],
    *,
    encoding: str = "utf-8",
    text_field: str = "text",
    on_bytes: Callable[[int, int], None] | None = None,
) -> Iterator[Document]:
    """Read text files one document at a time, in a fixed order, in bounded memory.

    In `.txt` and `.md` files a blank line ends a document; a `.jsonl` or `.ndjson` file holds one
    in each line, a `.parquet` file in each row. Each may be packed: `.gz`, `.bz2`, `.xz`, `.zst`.
    Empty documents are passed over. A document of more than a million characters is handed on in
    parts, cut at line ends where there are any.

    Args:
        paths: Files, or folders that are searched for files with these suffixes.
        encoding: Of every file but parquet, by its Python name; a byte order mark is tolerated.
        text_field: Where a `.jsonl` line or a `.parquet` row keeps its text.
        on_bytes: Called with the number of bytes read from disk and the number in all.

    Raises:
        DataError: A path is missing, holds nothing readable, is damaged, is in another encoding,
            or a line is malformed: names the file and line.
        ResourceError: A file needs a package that is not installed: says how to install it.
    """
    files = [file for path in paths for file in text_files(path)]
    total = sum(file.num_bytes for file in files)
    done = 0

    def tell(position: int) -> None:
        if on_bytes:
            on_bytes(done + position, total)

    for file in files:
        for number, text in _numbered_texts(file, encoding, text_field, tell):
            yield Document(text, f"{file.path}:{number}")
        done += file.num_bytes


def _numbered_texts(
    file: TextFile, encoding: str, text_field: str, tell: Callable[[int], None]
) -> Iterator[tuple[int, str]]:
    match file.layout:
        case "parquet":
            yield from _short_texts(read_parquet(file, text_field=text_field, tell=tell))
        case "jsonl":
            lines = read_lines(file, encoding=encoding, tell=tell)
            yield from _short_texts(_json_texts(file, lines, text_field))
        case "paragraphs":
            lines = read_lines(file, encoding=encoding, tell=tell)
            bare = ((number, line.rstrip()) for number, line in lines)
            yield from _joined(bare, blank_line_ends=True)


def _short_texts(rows: Iterable[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    for number, text in rows:
        if len(text) > MAX_CHARACTERS:
            yield from _joined(_short_lines(number, text), blank_line_ends=False)
        elif text.strip():
            yield number, text


def _short_lines(number: int, text: str) -> Iterator[tuple[int, str]]:
    for line in text.split("\n"):
        for start in range(0, len(line) or 1, MAX_CHARACTERS):
            yield number, line[start : start + MAX_CHARACTERS]


def _joined(
    lines: Iterable[tuple[int, str]], *, blank_line_ends: bool
) -> Iterator[tuple[int, str]]:
    """Join lines to texts of at most `MAX_CHARACTERS`, each with its first line's number."""
    kept: list[str] = []
    first = size = 0
    for number, line in lines:
        is_full = size + len(line) > MAX_CHARACTERS
        if is_full or (blank_line_ends and not line):
            if any(kept):
                yield first, "\n".join(kept)
            kept, size = [], 0
        if line or not blank_line_ends:
            first = first if kept else number
            kept.append(line)
            size += len(line) + 1
    if any(kept):
        yield first, "\n".join(kept)


def _json_texts(
    file: TextFile, lines: Iterator[tuple[int, str]], text_field: str
) -> Iterator[tuple[int, str]]:
    for number, pieces in groupby(lines, key=itemgetter(0)):
        line = _one_line(file, number, (piece for _, piece in pieces))
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            reason = getattr(error, "msg", "nested too deeply")
            raise DataError(
                f"{file.path}:{number}: not JSON: {reason}; write one object a line"
            ) from error
        text = row.get(text_field) if isinstance(row, dict) else None
        if not isinstance(text, str):
            found = ", ".join(sorted(row)) if isinstance(row, dict) else type(row).__name__
            raise DataError(
                f"{file.path}:{number}: no text in field {text_field!r} (found: {found}); "
                "give --text-field (data.text_field in a recipe)"
            )
        _check_whole(file, number, text)
        yield number, text


def _check_whole(file: TextFile, number: int, text: str) -> None:
    r"""Refuse half characters, which JSON can write (`\ud83d` alone) but no encoding can."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = text[error.start]
        raise DataError(
            f"{file.path}:{number}: half a character, {ascii(half)[1:-1]}, at position "
            f"{error.start} of the text; mend the line"
        ) from error


def _one_line(file: TextFile, number: int, pieces: Iterator[str]) -> str:
    kept: list[str] = []
    for piece in pieces:
        kept.append(piece)
        if len(kept) * MAX_CHARACTERS > _MAX_JSON_CHARACTERS:
            raise DataError(
                f"{file.path}:{number}: a line of more than {_MAX_JSON_CHARACTERS} characters; "
                "write one object a line"
            )
    return "".join(kept)
