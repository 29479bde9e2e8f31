"""The text of .docx and .epub files, which are XML in a zip file."""

import posixpath
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree

from hanpaca.data.readers.html import html_blocks
from hanpaca.errors import DataError

_MOST_BYTES = 200_000_000
"""Of one unpacked member: a packed file can unpack to a thousandfold."""
_WORD = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_CONTAINER = "META-INF/container.xml"
_OLE = b"\xd0\xcf\x11\xe0"
"""Begins old .doc files, and .docx files with a password."""
_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError)


def docx_paragraphs(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the paragraphs of a Word file that are not empty, cells of tables too, numbered from 1.

    Raises:
        DataError: It is damaged, has a password, or is none.
    """
    tree = _tree(path, _member(path, "word/document.xml"))
    for number, paragraph in enumerate(tree.iter(f"{_WORD}p"), start=1):
        if text := "".join(_run(one) for one in paragraph.iter()).strip():
            yield number, text


def epub_chapters(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the chapters of a book that have text, in the order they are read, numbered from 1.

    Raises:
        DataError: It is damaged, is locked, or is none.
    """
    container = _tree(path, _member(path, _CONTAINER))
    root = next((one.get("full-path") for one in _named(container, "rootfile")), None)
    package = _tree(path, _member(path, root or ""))
    places = {one.get("id"): one.get("href", "") for one in _named(package, "item")}
    folder = posixpath.dirname(root or "")
    for number, item in enumerate(_named(package, "itemref"), start=1):
        place = unquote(places.get(item.get("idref"), "").partition("#")[0])
        data = _member(path, posixpath.normpath(posixpath.join(folder, place)))
        try:
            page = data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
        except UnicodeDecodeError as error:
            raise DataError(f"{path}: {place} in it is not UTF-8") from error
        if text := "\n".join(block for _, block in html_blocks([page])):
            yield number, text


def _member(path: Path, name: str) -> bytes:
    """A file inside the file, unpacked, of bounded size."""
    try:
        with zipfile.ZipFile(path) as packed, packed.open(name) as member:
            data = member.read(_MOST_BYTES + 1)
    except KeyError as error:
        raise DataError(f"{path}: no {path.suffix} file: {name!r} is missing in it") from error
    except _DAMAGED as error:
        with path.open("rb") as stream:
            is_ole = stream.read(len(_OLE)) == _OLE
        found = "has a password, or is an old .doc file" if is_ole else f"is damaged ({error})"
        raise DataError(f"{path}: {found}; save it again") from error
    if len(data) > _MOST_BYTES:
        raise DataError(f"{path}: {name} in it has more than {_MOST_BYTES:,} bytes")
    return data


def _tree(path: Path, data: bytes) -> ElementTree.Element:
    try:
        return ElementTree.fromstring(data)
    except (ElementTree.ParseError, ValueError) as error:  # ValueError: an unknown encoding
        raise DataError(f"{path}: is damaged ({error}); save it again") from error


def _named(tree: ElementTree.Element, name: str) -> Iterator[ElementTree.Element]:
    return (one for one in tree.iter() if one.tag.rpartition("}")[2] == name)


def _run(node: ElementTree.Element) -> str:
    match node.tag:
        case tag if tag == f"{_WORD}t":
            return node.text or ""
        case tag if tag in (f"{_WORD}tab", f"{_WORD}br", f"{_WORD}cr"):
            return " "
        case _:
            return ""
