"""Which files hold text, what their names say of them, and their bytes, unpacked."""

import bz2
import gzip
import lzma
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path
from typing import IO, Literal

from hanpaca.data.hub import here
from hanpaca.errors import ArtifactError, DataError, ResourceError
from hanpaca.files import check_regular

Layout = Literal["paragraphs", "jsonl", "parquet"]
LAYOUTS: dict[str, Layout] = {
    ".txt": "paragraphs",
    ".md": "paragraphs",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
}
COMPRESSIONS = (".gz", ".bz2", ".xz", ".zst")
_OF_ROWS = (".json", ".jsonl", ".ndjson", ".csv", ".parquet")
UNREADABLE = (OSError, EOFError, zlib.error, lzma.LZMAError)
"""What `read_blocks` may raise on a file that is damaged, cut off, or on a failing disk."""
_BLOCK_BYTES = 1 << 20
_ZSTD_BYTES = 1 << 14  # read at a time: a block of a well-packed file unpacks to a thousandfold
_NO_SUCH = "no such file or folder"
_KNOWN = f"{', '.join(LAYOUTS)}, or one of these with {', '.join(COMPRESSIONS)}"


@dataclass(frozen=True)
class TextFile:
    """A file of text, by its name.

    Attributes:
        path: where it is.
        layout: how documents lie in it.
        compression: one of `COMPRESSIONS`, or nothing.
        num_bytes: its size on disk.
    """

    path: Path
    layout: Layout
    compression: str
    num_bytes: int


def text_files(path: Path) -> list[TextFile]:
    """List the text files at a place: a file itself, or all in a folder, in a fixed order.

    Other files of a folder are passed over, and so is all that is hidden (begins with a dot).

    Raises:
        DataError: There is no such place, or nothing readable there.
    """
    path = here(path)
    if path.is_file():
        file = _text_file(path)
        if file is None:
            raise DataError(
                f"{path}: cannot read {path.suffix or 'a file without suffix'}; give {_KNOWN}"
            )
        return [file]
    if not path.is_dir():
        found = "not a regular file; give the file itself" if path.exists() else _NO_SUCH
        raise DataError(f"{path}: {found}")
    files = [file for found in _shown_files(path) if (file := _text_file(found))]
    if not files:
        raise DataError(f"{path}: no text in this folder; it can be {_KNOWN}")
    return files


def row_files(path: Path) -> list[Path]:
    """List the files of instructions at a place: a file by any name, or all of a folder.

    Other files of a folder are passed over, and so is all that is hidden (begins with a dot).

    Raises:
        DataError: The folder holds none.
    """
    path = here(path)
    if not path.is_dir():
        return [path]
    files = [found for found in _shown_files(path) if suffix_of(found) in _OF_ROWS]
    if not files:
        known = f"{', '.join(_OF_ROWS)}, or one of these with {', '.join(COMPRESSIONS)}"
        raise DataError(f"{path}: no instructions in this folder; they can be {known}")
    return files


def suffix_of(path: Path) -> str:
    """What a name says of the layout, without what it says of the packing."""
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
    if suffixes and suffixes[-1] in COMPRESSIONS:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def json_file(path: Path) -> TextFile:
    """A file of rows, by whatever name, perhaps packed; JSON, where the name says nothing else.

    Raises:
        DataError: There is no such file.
    """
    try:
        path = here(path)
        num_bytes = check_regular(path)
    except ArtifactError as error:
        raise DataError(error.message) from error
    compression = path.suffix.lower()
    return TextFile(path, "jsonl", compression if compression in COMPRESSIONS else "", num_bytes)


def read_blocks(file: TextFile, tell: Callable[[int], None]) -> Iterator[bytes]:
    """Yield a file's bytes, unpacked, in blocks of bounded size.

    Args:
        file: what to read.
        tell: called with the number of bytes read from disk so far.

    Raises:
        UNREADABLE: One of these errors, where the file is damaged or cut off.
        ResourceError: The library for this compression is not installed.
    """
    with file.path.open("rb") as packed:
        for block in _unpacked(packed, file.compression):
            tell(packed.tell())
            yield block


def damage(error: BaseException, compression: str) -> str:
    """Say in words what one of the `UNREADABLE` errors means."""
    if isinstance(error, OSError) and error.errno is not None:
        return f"cannot be read: {error.strerror}"
    kind = compression.removeprefix(".") or "file"
    if isinstance(error, EOFError):
        return f"this {kind} file is cut off here; copy or download it again"
    return f"this {kind} file is damaged here ({error}); copy or download it again"


def _shown_files(folder: Path) -> list[Path]:
    return sorted(
        found
        for found in folder.rglob("*")
        if found.is_file()
        and not any(part.startswith(".") for part in found.relative_to(folder).parts)
    )


def _text_file(path: Path) -> TextFile | None:
    compression = path.suffix.lower() if path.suffix.lower() in COMPRESSIONS else ""
    layout = LAYOUTS.get(suffix_of(path))
    return TextFile(path, layout, compression, path.stat().st_size) if layout else None


def _unpacked(packed: IO[bytes], compression: str) -> Iterator[bytes]:
    stream: IO[bytes] | BufferedIOBase
    match compression:
        case ".gz":
            with gzip.GzipFile(fileobj=packed) as stream:
                yield from _blocks(stream)
        case ".bz2":
            with bz2.BZ2File(packed) as stream:
                yield from _blocks(stream)
        case ".xz":
            with lzma.LZMAFile(packed) as stream:
                yield from _blocks(stream)
        case ".zst":
            yield from _unpacked_zstd(packed)
        case _:
            yield from _blocks(packed)


def _blocks(stream: IO[bytes] | BufferedIOBase) -> Iterator[bytes]:
    while block := stream.read(_BLOCK_BYTES):
        yield block


def _unpacked_zstd(packed: IO[bytes]) -> Iterator[bytes]:
    """Unpack frame after frame; zstandard's own stream reader takes a cut-off file for whole."""
    try:
        import zstandard
    except ImportError as error:
        raise ResourceError("reading .zst needs one more package: pip install zstandard") from error
    frame = zstandard.ZstdDecompressor().decompressobj()
    inside = False
    try:
        while data := packed.read(_ZSTD_BYTES):
            while data:
                inside = True
                if unpacked := frame.decompress(data):
                    yield unpacked
                data = b""
                if frame.eof:
                    data, inside = frame.unused_data, False
                    frame = zstandard.ZstdDecompressor().decompressobj()
    except zstandard.ZstdError as error:
        raise OSError(str(error)) from error  # as gzip and bz2 report it
    if inside:
        raise EOFError
