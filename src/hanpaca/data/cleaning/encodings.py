"""In which encoding a file's text is, found by reading all of it."""

import codecs
from dataclasses import dataclass
from itertools import chain

from hanpaca.data.files import UNREADABLE, TextFile, damage, read_blocks
from hanpaca.errors import DataError

_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16, whose mark it begins with
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
    codecs.BOM_UTF8: "utf-8",
}
UNKNOWN = "unknown"
# Much UTF-8 text passes for GB18030; GB18030 text passes for UTF-8 for a few characters at most.
_CHANCE_CHARACTERS = 8
# All bytes of Big5 are bytes of GB18030 too. Two characters in five of Big5 text end in a byte
# below 0x7F; of GB18030 only rare ones do, most of which begin with a byte that Big5 never has.
_BIG5 = ("big5", "cp950")
_LEAST_LOW_ENDS = 0.05


@dataclass(frozen=True)
class FoundEncoding:
    """What the bytes of a file say of its text."""

    name: str
    """`utf-8`, `gb18030`, `big5` (or `cp950`, Microsoft's), `utf-16`, `utf-32`, or `unknown` where
    none of them reads all of it."""
    has_mark: bool = False
    """It begins with a byte order mark."""
    has_crlf: bool = False
    r"""Some of its lines end in `\r\n`."""

    def __str__(self) -> str:
        return self.name + " with BOM" * self.has_mark + ", CRLF" * self.has_crlf


def find_encoding(file: TextFile) -> FoundEncoding:
    """Tell UTF-8, GB18030, Big5, and by their byte order marks UTF-16 and UTF-32.

    Raises:
        DataError: The file is damaged.
        ResourceError: The library for its compression is not installed.
    """
    if file.layout == "parquet":
        return FoundEncoding("utf-8")
    mark = next((one for one in _MARKS if _beginning(file).startswith(one)), None)
    if mark is not None and _MARKS[mark] != "utf-8":
        return FoundEncoding(_MARKS[mark], has_mark=True)
    tried = _Reading(file, "utf-8")
    if tried.is_whole:
        return FoundEncoding("utf-8", mark is not None, tried.has_crlf)
    if tried.num_wide <= _CHANCE_CHARACTERS:
        for name in _BIG5:
            tried = _Reading(file, name)
            if tried.is_whole and tried.low_ends >= _LEAST_LOW_ENDS:
                return FoundEncoding(name, has_crlf=tried.has_crlf)
        tried = _Reading(file, "gb18030")
        if tried.is_whole:
            return FoundEncoding("gb18030", has_crlf=tried.has_crlf)
    return FoundEncoding(UNKNOWN, mark is not None, tried.has_crlf)


def _beginning(file: TextFile) -> bytes:
    try:
        return next(read_blocks(file, lambda _: None), b"")
    except UNREADABLE as error:
        raise DataError(f"{file.path}: {damage(error, file.compression)}") from error


class _Reading:
    """What came of decoding a file: how far it went."""

    def __init__(self, file: TextFile, encoding: str) -> None:
        self.is_whole, self.has_crlf = False, False
        self.num_wide = 0
        """Characters of more than one byte before the first fault."""
        self._num_pairs = self._num_low = 0
        self.encoding = encoding
        decoder = codecs.getincrementaldecoder(encoding)()
        try:
            for block in chain(read_blocks(file, lambda _: None), (b"",)):
                self._count(decoder.decode(block, final=not block))
            self.is_whole = True
        except UnicodeDecodeError as error:
            self._count(error.object[: error.start].decode(encoding, "ignore"))
        except UNREADABLE as error:
            raise DataError(f"{file.path}: {damage(error, file.compression)}") from error

    @property
    def low_ends(self) -> float:
        """Share of the characters of two bytes that end in a byte below 0x7F."""
        return self._num_low / max(1, self._num_pairs)

    def _count(self, text: str) -> None:
        if self.encoding in _BIG5:
            pairs = "".join(one for one in text if not one.isascii()).encode(self.encoding)
            self._num_pairs += len(pairs) // 2
            self._num_low += sum(end < 0x7F for end in pairs[1::2])
        self.has_crlf = self.has_crlf or "\r\n" in text
        if self.num_wide <= _CHANCE_CHARACTERS:
            self.num_wide += len(text) - len(text.encode("ascii", "ignore"))
