"""The text of PDF pages, through pypdf, and which pages have none that can be read."""

import logging
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hanpaca.data.cleaning.characters import SCRIPTS, codes_of, count_scripts
from hanpaca.errors import DataError, ResourceError

if TYPE_CHECKING:
    from pypdf import PdfReader

logging.getLogger("pypdf").addHandler(logging.NullHandler())
"""What it warns of is for whoever sets up logging; else Python would print it."""
_KNOWN = [SCRIPTS.index("Han"), SCRIPTS.index("Latin")]
_LEAST_KNOWN = 0.6
"""Share of a page's letters that must be Han or Latin: fonts without a map of their characters come
out as letters of scripts from all over the world."""
_DAMAGED = (
    *(ValueError, TypeError, AttributeError, LookupError, ArithmeticError, AssertionError),
    *(RecursionError, NotImplementedError, EOFError, OSError, struct.error, zlib.error),
)
"""What pypdf raises on a damaged file beside its own errors."""


def pdf_pages(path: Path, *, note: Callable[[str], object]) -> Iterator[tuple[int, str]]:
    """Yield the pages that can be read, with their numbers from 1.

    Args:
        path: The file.
        note: Called once with the pages that cannot, and why.

    Raises:
        DataError: The file is damaged or encrypted, or none of its pages can be read.
        ResourceError: pypdf is not installed.
    """
    reader = _opened(path)
    empty: list[int] = []
    unreadable: list[int] = []
    num_pages = _num_pages(path, reader)
    for index in range(num_pages):
        text = _text(reader, index)
        if text is None or not is_readable(text):
            unreadable.append(index + 1)
        elif text:
            yield index + 1, text
        else:
            empty.append(index + 1)
    told = "; ".join(
        f"{what} {_ranges(pages)} of {num_pages}"
        for what, pages in (
            ("no text, perhaps a scan, on page", empty),
            ("letters that are mostly neither Han nor Latin on page", unreadable),
        )
        if pages
    )
    if told and len(empty) + len(unreadable) == num_pages:
        raise DataError(f"{path}: {told}")
    if told:
        note(told)


def is_readable(text: str) -> bool:
    """Tell a page of Chinese or English from what a font without a map comes out as.

    >>> is_readable("第三章 LoRA, 2023"), is_readable("ќҚҪїҲ ӘҜ"), is_readable("12, 13")
    (True, False, True)
    """
    counts = count_scripts(codes_of(text))
    num_letters = int(counts.sum())
    return int(counts[_KNOWN].sum()) >= _LEAST_KNOWN * num_letters


def _opened(path: Path) -> "PdfReader":
    try:
        from pypdf import PdfReader
        from pypdf.errors import DependencyError, PyPdfError
    except ImportError as error:
        raise ResourceError("reading .pdf needs one more package: pip install pypdf") from error
    try:
        reader = PdfReader(path)
        is_locked = reader.is_encrypted and not reader.decrypt("")
    except DependencyError:
        is_locked = True
    except (PyPdfError, *_DAMAGED) as error:
        raise DataError(f"{path}: this PDF is damaged ({_reason(error)})") from error
    if is_locked:
        raise DataError(f"{path}: this PDF is encrypted; save it without its password")
    return reader


def _num_pages(path: Path, reader: "PdfReader") -> int:
    from pypdf.errors import PyPdfError

    try:
        return len(reader.pages)
    except (PyPdfError, *_DAMAGED) as error:
        raise DataError(f"{path}: this PDF is damaged ({_reason(error)})") from error


def _text(reader: "PdfReader", index: int) -> str | None:
    """The text of a page, without half characters; None where its content is damaged."""
    from pypdf.errors import PyPdfError

    try:
        text = reader.pages[index].extract_text()
    except (PyPdfError, *_DAMAGED):
        return None
    return text.encode("utf-8", "ignore").decode().replace("\0", "").strip()


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split())[:100] or type(error).__name__


def _ranges(numbers: Sequence[int]) -> str:
    """Numbers in order, runs of them as their ends.

    >>> _ranges([1, 2, 3, 7])
    '1-3, 7'
    """
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(f"{first}-{last}" if first < last else str(first) for first, last in runs)
