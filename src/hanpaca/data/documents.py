"""Documents from text files of any layout, as a stream."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hanpaca.data.files import TextFile, text_files
from hanpaca.data.lines import MAX_CHARACTERS, read_lines, whole_lines
from hanpaca.data.parquet import read_parquet
from hanpaca.errors import DataError
from hanpaca.progress import Progress, Tell, silent

_MANY_LINES = 100
_ONE_DOCUMENT = (
    "{}: its {} lines are one document, as no blank line parts them; put one between documents, or "
    "write each as a line of .jsonl"
)


@dataclass(frozen=True)
class Document:
    """A piece of running text and where it comes from."""

    text: str
    source: str
    """`file:line` of its beginning; in a parquet file, `file:row`."""


def read_documents(
    paths: Sequence[Path | str],
    *,
    encoding: str = "utf-8",
    text_field: str = "text",
    on_bytes: Callable[[int, int], None] | None = None,
    tell: Tell = silent,
) -> Iterator[Document]:
    """Read text files one document at a time, in a fixed order, in bounded memory.

    ```python
    texts = (document.text for document in read_documents(["news", "zh.jsonl.gz"]))
    ```

    In `.txt` and `.md` files a blank line ends a document; a `.jsonl` or `.ndjson` file holds one
    in each line, a `.parquet` file in each row. Each may be packed: `.gz`, `.bz2`, `.xz`, `.zst`.
    Empty documents are passed over. A document of more than a million characters is handed on in
    parts, cut at line ends where there are any.

    Args:
        paths: Files, or folders that are searched for files with these suffixes.
        encoding: Of every file but parquet, by its Python name; a byte order mark is tolerated.
        text_field: Where a `.jsonl` line or a `.parquet` row keeps its text.
        on_bytes: Called with the number of bytes read from disk and the number in all.
        tell: Called with a note on a file of many lines that no blank line parts.

    Raises:
        DataError: A path is missing, holds nothing readable, is damaged, is in another encoding,
            or a line is malformed: names the file and line.
        ResourceError: A file needs a package that is not installed: says how to install it.
    """
    files = [file for path in map(Path, paths) for file in text_files(path)]
    total = sum(file.num_bytes for file in files)
    done = 0

    def count(position: int) -> None:
        if on_bytes:
            on_bytes(done + position, total)

    for file in files:
        num_lines = num_texts = size = 0
        for number, text in _numbered_texts(file, encoding, text_field, count):
            yield Document(text, f"{file.path}:{number}")
            if file.layout == "paragraphs":
                num_texts += 1
                num_lines += text.count("\n") + 1
                size += len(text)
        done += file.num_bytes
        # Every part but the last of one long document is all but full.
        if num_lines > _MANY_LINES and 0.9 * MAX_CHARACTERS * (num_texts - 1) <= size:
            tell(Progress(done, total, "bytes", _ONE_DOCUMENT.format(file.path, num_lines)))


def _numbered_texts(
    file: TextFile, encoding: str, text_field: str, tell: Callable[[int], None]
) -> Iterator[tuple[int, str]]:
    match file.layout:
        case "parquet":
            yield from short_texts(read_parquet(file, text_field=text_field, tell=tell))
        case "jsonl":
            lines = read_lines(file, encoding=encoding, tell=tell)
            yield from short_texts(json_texts(file, lines, text_field))
        case "paragraphs":
            lines = read_lines(file, encoding=encoding, tell=tell)
            bare = ((number, line.rstrip()) for number, line in lines)
            yield from join_lines(bare, blank_line_ends=True)


def short_texts(rows: Iterable[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    """Hand texts on, the empty ones left out and those over `MAX_CHARACTERS` in parts."""
    for number, text in rows:
        if len(text) > MAX_CHARACTERS:
            yield from join_lines(_short_lines(number, text), blank_line_ends=False)
        elif text.strip():
            yield number, text


def _short_lines(number: int, text: str) -> Iterator[tuple[int, str]]:
    for line in text.split("\n"):
        for start in range(0, len(line) or 1, MAX_CHARACTERS):
            yield number, line[start : start + MAX_CHARACTERS]


def join_lines(
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


def json_texts(
    file: TextFile, lines: Iterator[tuple[int, str]], text_field: str
) -> Iterator[tuple[int, str]]:
    """The text of each line that is not blank, with its number; `lines` as `read_lines` gives them.

    Raises:
        DataError: A line is no JSON object with a whole text in this field: names it.
    """
    for number, line in whole_lines(file, lines):
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
                f"{file.path}:{number}: no text in field {text_field!r} (found: {found})",
                "give {text_field}",
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
