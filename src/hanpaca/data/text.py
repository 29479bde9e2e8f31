"""Documents from text files, as a stream."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hanpaca.errors import DataError

SUFFIXES = (".txt", ".md", ".jsonl")


@dataclass(frozen=True)
class Document:
    """A piece of running text and where it comes from."""

    text: str
    source: str
    """`file:line` of its beginning."""


def read_documents(
    paths: Sequence[Path], *, encoding: str = "utf-8", text_field: str = "text"
) -> Iterator[Document]:
    """Read text files one document at a time, in a fixed order.

    In `.txt` and `.md` files a blank line ends a document; a `.jsonl` file holds one in each line.
    Empty documents are passed over.

    Args:
        paths: Files, or folders that are searched for files with these suffixes.
        encoding: Of every file, by its Python name; a byte order mark is tolerated.
        text_field: Where a `.jsonl` line keeps its text.

    Raises:
        DataError: A path is missing, holds nothing readable, is in another encoding, or a line is
            malformed: names the file and line.
    """
    for path in paths:
        for file in _text_files(path):
            lines = _decoded_lines(file, encoding)
            if file.suffix == ".jsonl":
                yield from _jsonl_documents(file, lines, text_field)
            else:
                yield from _paragraph_documents(file, lines)


def _text_files(path: Path) -> list[Path]:
    if path.is_file():
        if path.suffix not in SUFFIXES:
            raise DataError(
                f"{path}: cannot read {path.suffix or 'a file without suffix'}; "
                f"give {', '.join(SUFFIXES)}"
            )
        return [path]
    if not path.is_dir():
        raise DataError(f"{path}: no such file or folder")
    files = sorted(file for file in path.rglob("*") if file.suffix in SUFFIXES and file.is_file())
    if not files:
        raise DataError(f"{path}: no {', '.join(SUFFIXES)} file in this folder")
    return files


def _decoded_lines(file: Path, encoding: str) -> Iterator[str]:
    try:
        with file.open("rb") as stream:
            for number, raw in enumerate(stream, start=1):
                text = _decode(raw, encoding, place=f"{file}:{number}")
                yield text.lstrip("\ufeff") if number == 1 else text
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror}") from error


def _decode(raw: bytes, encoding: str, *, place: str) -> str:
    try:
        return raw.decode(encoding)
    except LookupError as error:
        raise DataError(f"encoding {encoding!r} is unknown; try utf-8 or gb18030") from error
    except UnicodeDecodeError as error:
        hint = "convert the file or set `encoding` to its own"
        if encoding.lower().replace("-", "") == "utf8" and _is_gb18030(raw):
            hint = "it reads as GB18030: set `encoding: gb18030`"
        raise DataError(
            f"{place}: byte {raw[error.start]:#04x} at position {error.start} is not {encoding}; "
            f"{hint}"
        ) from error


def _is_gb18030(raw: bytes) -> bool:
    try:
        raw.decode("gb18030")
    except UnicodeDecodeError:
        return False
    return True


def _paragraph_documents(file: Path, lines: Iterator[str]) -> Iterator[Document]:
    kept: list[str] = []
    first = 1
    for number, line in enumerate(lines, start=1):
        if line.strip():
            first = first if kept else number
            kept.append(line.rstrip())
        elif kept:
            yield Document("\n".join(kept), f"{file}:{first}")
            kept = []
    if kept:
        yield Document("\n".join(kept), f"{file}:{first}")


def _jsonl_documents(file: Path, lines: Iterator[str], text_field: str) -> Iterator[Document]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(
                f"{file}:{number}: not JSON: {error.msg}; write one object a line"
            ) from error
        text = row.get(text_field) if isinstance(row, dict) else None
        if not isinstance(text, str):
            found = ", ".join(sorted(row)) if isinstance(row, dict) else type(row).__name__
            raise DataError(
                f"{file}:{number}: no text in field {text_field!r} (found: {found}); "
                "set `text_field` to the right one"
            )
        if text.strip():
            yield Document(text, f"{file}:{number}")
