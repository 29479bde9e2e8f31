"""Lines of text out of bytes, with the place of whatever cannot be decoded."""

import codecs
from collections.abc import Callable, Iterator
from itertools import groupby
from operator import itemgetter

from hanpaca.data.files import UNREADABLE, TextFile, damage, read_blocks
from hanpaca.errors import DataError

MAX_CHARACTERS = 1 << 20
"""Of one document, and of one line at a time; a long novel."""
MAX_ROW_CHARACTERS = 32 * MAX_CHARACTERS
"""Of one row of JSON or CSV, which must be held whole."""
_BYTE_ORDER_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16, whose mark it begins with
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_NO_TEXTS = {"idna", "punycode", "raw-unicode-escape", "undefined", "unicode-escape"}
"""Codecs of Python that are for names and source code: files are not written in them."""
_LEAST_HOLE = 1 << 12
"""NUL bytes that a block must consist of to be no text; fewer stand in some old ones."""
_GUESSED_BYTES = 1 << 16
# Multi-byte characters of UTF-8 that GB18030 text can hold by chance before its first fault.
_CHANCE_BYTES = 8


def read_lines(
    file: TextFile, *, encoding: str, tell: Callable[[int], None]
) -> Iterator[tuple[int, str]]:
    r"""Yield each line with its number, from 1, and without its `\n`.

    A line longer than `MAX_CHARACTERS` comes in several pieces of that length with one number, so
    that memory stays bounded. A byte order mark in the file's own encoding is dropped.

    Args:
        file: what to read.
        encoding: of the text, by its Python name.
        tell: called with the number of bytes read from disk so far.

    Raises:
        DataError: The file is damaged or in another encoding: names the line.
        ResourceError: The library for the file's compression is not installed.
    """
    number, pending, is_start = 1, "", True
    for text in _decoded(file, encoding, tell):
        if is_start and text:
            text, is_start = text.removeprefix("\ufeff"), False
        *lines, rest = text.split("\n")
        for line in lines:
            for piece in _pieces(pending + line):
                yield number, piece
            number, pending = number + 1, ""
        pending += rest
        while len(pending) > MAX_CHARACTERS:
            yield number, pending[:MAX_CHARACTERS]
            pending = pending[MAX_CHARACTERS:]
    if pending:
        yield number, pending


def whole_lines(file: TextFile, lines: Iterator[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    """Put the pieces of long lines together again; `lines` as `read_lines` gives them.

    Raises:
        DataError: A line is longer than a row of data can be: names it.
    """
    for number, pieces in groupby(lines, key=itemgetter(0)):
        kept: list[str] = []
        for _, piece in pieces:
            kept.append(piece)
            if len(kept) * MAX_CHARACTERS > MAX_ROW_CHARACTERS:
                raise DataError(
                    f"{file.path}:{number}: a line of more than {MAX_ROW_CHARACTERS} characters; "
                    "write one object a line"
                )
        yield number, "".join(kept)


def read_text_blocks(file: TextFile, *, encoding: str) -> Iterator[str]:
    """Yield the text of a file in blocks of bounded size, without a byte order mark.

    Raises:
        DataError: As `read_lines`.
        ResourceError: As `read_lines`.
    """
    is_start = True
    for text in _decoded(file, encoding, lambda _: None):
        if text:
            yield text.removeprefix("\ufeff") if is_start else text
            is_start = False


def text_decoder(encoding: str) -> codecs.IncrementalDecoder:
    """A decoder of bytes that come in blocks; it raises `UnicodeDecodeError`.

    Raises:
        DataError: There is no such encoding of text.
    """
    try:
        codec = codecs.lookup(encoding)
        bytes(4).decode(encoding)  # refuses codecs that make no text, such as hex
    except (LookupError, ValueError):
        codec = None
    if codec is None or codec.name in _NO_TEXTS or codec.incrementaldecoder is None:
        raise DataError(f"encoding {encoding!r} is unknown", "try utf-8 or gb18030")
    return codec.incrementaldecoder(errors="strict")


def _pieces(line: str) -> Iterator[str]:
    if len(line) <= MAX_CHARACTERS:
        yield line
        return
    for start in range(0, len(line), MAX_CHARACTERS):
        yield line[start : start + MAX_CHARACTERS]


def _decoded(file: TextFile, encoding: str, tell: Callable[[int], None]) -> Iterator[str]:
    decoder = text_decoder(encoding)
    num_lines, num_bytes, num_characters = 1, 0, 0
    blocks = read_blocks(file, tell)
    while True:
        try:
            block = next(blocks, b"")
            if not num_bytes:
                _check_byte_order_mark(file, block, encoding)
            if len(block) >= _LEAST_HOLE and not block.strip(b"\0"):
                place = f"{file.path}:{num_lines}"
                raise DataError(f"{place}: NUL bytes without text; copy or download it again")
            text = decoder.decode(block, final=not block)
        except UNREADABLE as error:
            place = f"{file.path}:{num_lines}"
            raise DataError(f"{place}: {damage(error, file.compression)}") from error
        except UnicodeDecodeError as error:
            wide = num_bytes - num_characters
            raise _wrong_encoding(error, file, first_line=num_lines, wide=wide) from error
        yield text
        if not block:
            return
        num_lines += text.count("\n")
        num_bytes += len(block)
        num_characters += len(text)


def _check_byte_order_mark(file: TextFile, block: bytes, encoding: str) -> None:
    name = next((name for mark, name in _BYTE_ORDER_MARKS.items() if block.startswith(mark)), "")
    if not codecs.lookup(encoding).name.startswith(name):
        raise DataError(f"{file.path}:1: looks like {name}", f"give {{encoding}} {name}")


def _wrong_encoding(
    error: UnicodeDecodeError, file: TextFile, *, first_line: int, wide: int
) -> DataError:
    """Say where decoding failed, and what the text looks like.

    Args:
        error: from the decoder; its `object` is what was being decoded.
        file: for the message.
        first_line: where `error.object` begins.
        wide: bytes that were decoded before it beyond one a character.
    """
    data, start = bytes(error.object), error.start
    line = first_line + data.count(b"\n", 0, start)
    message = f"{file.path}:{line}: byte {data[start]:#04x} is not {error.encoding}"
    if error.encoding == "utf-8" and error.reason != "unexpected end of data":
        before = data[:start]
        wide += len(before) - len(before.decode())
        if wide <= _CHANCE_BYTES and _is_gb18030(data[start : start + _GUESSED_BYTES]):
            return DataError(f"{message}; looks like gb18030", "give {encoding} gb18030")
    return DataError(message, "mend the file, or give its {encoding}")


def _is_gb18030(data: bytes) -> bool:
    """Tell whether bytes decode as GB18030, the last character perhaps cut off."""
    try:
        codecs.getincrementaldecoder("gb18030")().decode(data)
    except UnicodeDecodeError:
        return False
    return True
