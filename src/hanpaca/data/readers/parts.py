"""Any document as stretches of running text, each with its place in the file."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hanpaca.data.cleaning.encodings import UNKNOWN, find_encoding
from hanpaca.data.documents import read_documents
from hanpaca.data.files import LAYOUTS, TextFile, text_files
from hanpaca.data.lines import read_text_blocks
from hanpaca.errors import DataError

Unit = Literal["line", "row", "paragraph", "page", "chapter"]
AUTO = "auto"
"""The encoding of a text is found out."""
MARKED = (".html", ".htm", ".xhtml")
PACKED_XML = (".docx", ".epub")
SUFFIXES = (*LAYOUTS, *MARKED, *PACKED_XML, ".pdf")


@dataclass(frozen=True, slots=True)
class TextPart:
    """A stretch of running text and its place."""

    text: str
    unit: Unit
    number: int
    """Of the unit it begins in, from 1."""


def read_parts(
    path: Path, *, encoding: str = AUTO, text_field: str = "text", note: Callable[[str], object]
) -> Iterator[TextPart]:
    """Read a document in order; a stretch of text has at most a million characters.

    Args:
        path: A file whose name ends as one of `SUFFIXES`; texts may be packed too.
        encoding: Of texts, by its Python name, or "auto" to find it out.
        text_field: Where a `.jsonl` line or a `.parquet` row keeps its text.
        note: Called with what could not be read, where the rest could.

    Raises:
        DataError: The file cannot be read: names it and says why.
        ResourceError: It needs a package that is not installed.
    """
    from hanpaca.data.readers.html import html_blocks
    from hanpaca.data.readers.packed_xml import docx_paragraphs, epub_chapters
    from hanpaca.data.readers.pdf import pdf_pages

    match path.suffix.lower():
        case ".pdf":
            for number, text in pdf_pages(path, note=note):
                yield TextPart(text, "page", number)
        case ".docx":
            for number, text in docx_paragraphs(path):
                yield TextPart(text, "paragraph", number)
        case ".epub":
            for number, text in epub_chapters(path):
                yield TextPart(text, "chapter", number)
        case suffix if suffix in MARKED:
            file = TextFile(path, "paragraphs", "", path.stat().st_size)
            name = _encoding(file, encoding)
            for number, text in html_blocks(read_text_blocks(file, encoding=name)):
                yield TextPart(text, "line", number)
        case _:
            (file,) = text_files(path)
            unit: Unit = "line" if file.layout == "paragraphs" else "row"
            name = _encoding(file, encoding)
            for document in read_documents([path], encoding=name, text_field=text_field):
                yield TextPart(document.text, unit, int(document.source.rpartition(":")[2]))


def _encoding(file: TextFile, encoding: str) -> str:
    if encoding != AUTO:
        return encoding
    found = find_encoding(file).name
    if found == UNKNOWN:
        raise DataError(
            f"{file.path}: neither UTF-8 nor GB18030, Big5 or UTF-16 as a whole",
            "mend the file, or give its {encoding}",
        )
    return found
