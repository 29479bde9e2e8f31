"""Files: reading what others wrote without trusting it, and writing so that a name means whole.

Reading takes regular files only (a FIFO or a device would never end), bounds their size before a
byte is read, and refuses JSON that says a key twice or nests without end. Writing happens beside
the final name and ends in a rename, so that whatever is found under a final name is whole.
"""

import fcntl
import hashlib
import json
import os
import shutil
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hanpaca.errors import ArtifactError, ResourceError

MAX_JSON_BYTES = 50_000_000
"""The largest `tokenizer.json` known has about 35 MB."""
MAX_JSON_DIGITS = 400
"""Of one number; the largest float has 309 digits."""
PARTIAL = ".partial"
"""Ends the name of what is still being written."""
KEY = "key"
"""Of the work in a folder that is still being written."""
CHECKPOINTS = "checkpoints"
"""In a folder that is still being written: what an interrupted work goes on from."""
LOCK = ".lock"
"""Held by the process that works in a folder."""
GGUF_MAGIC = b"GGUF"
_CHUNK_BYTES = 1 << 20
BEGINNING_BYTES = 64
"""Enough of a file for `check_itself`."""
_STAND_INS = (
    (
        b"version https://git-lfs",
        "a git-lfs pointer and not the file: fetch it with `git lfs pull`",
    ),
    (b"<!doctype html", "a web page and not the file: download the file itself"),
    (b"<html", "a web page and not the file: download the file itself"),
)
"""What lies in a file's place where it was not downloaded, and what to do."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file, by content."""

    path: str
    """Relative to the run folder, or for a file from outside as the recipe names it."""
    sha256: str
    num_bytes: int


def check_regular(path: Path) -> int:
    """Size in bytes of a regular file, or of what a link to one points at.

    Raises:
        ArtifactError: It is missing, or a folder, a FIFO, a device or a socket.
    """
    try:
        found = path.stat()
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read: {error.strerror}") from error
    if not stat.S_ISREG(found.st_mode):
        raise ArtifactError(f"{path}: not a regular file; give the file itself")
    return found.st_size


def check_small(path: Path, *, max_bytes: int = MAX_JSON_BYTES) -> None:
    """Check that a file that is not trusted may be read or copied whole.

    Raises:
        ArtifactError: It is missing, no regular file, or over `max_bytes`.
    """
    num_bytes = check_regular(path)
    if num_bytes > max_bytes:
        raise ArtifactError(
            f"{path}: {num_bytes:,} bytes is too much for a file of this kind (at most "
            f"{max_bytes:,}); download it again"
        )


def check_itself(path: Path, beginning: bytes) -> None:
    """Check that a file is not what a download leaves in its place.

    Args:
        path: For the message.
        beginning: At least `BEGINNING_BYTES` of it, where it has as many.

    Raises:
        ArtifactError: It is a pointer of git-lfs, or a web page.
    """
    text = beginning.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    for start, told in _STAND_INS:
        if text.startswith(start):
            raise ArtifactError(f"{path}: {told}")


def read_bytes(path: Path, *, max_bytes: int = MAX_JSON_BYTES) -> bytes:
    """Read a whole file that is not trusted.

    Raises:
        ArtifactError: It is missing, no regular file, over `max_bytes`, or was not downloaded.
    """
    check_small(path, max_bytes=max_bytes)
    try:
        with path.open("rb") as stream:
            data = stream.read(max_bytes + 1)
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read: {error.strerror}") from error
    check_itself(path, data[:BEGINNING_BYTES])
    return data


def read_text(path: Path, *, max_bytes: int = MAX_JSON_BYTES) -> str:
    """Read a whole UTF-8 file that is not trusted.

    Raises:
        ArtifactError: As `read_bytes`, or it is not UTF-8.
    """
    try:
        return read_bytes(path, max_bytes=max_bytes).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ArtifactError(f"{path}: not UTF-8 at byte {error.start}; save it as UTF-8") from error


def read_json(path: Path, *, max_bytes: int = MAX_JSON_BYTES) -> dict[str, Any]:
    """Read a JSON object from a file that is not trusted.

    Raises:
        ArtifactError: As `read_bytes`, or it is damaged, no object, or says a key twice.
    """
    return parse_json(read_bytes(path, max_bytes=max_bytes), str(path))


def parse_json(data: bytes | str, what: str) -> dict[str, Any]:
    """Parse a JSON object that is not trusted.

    Args:
        data: The text.
        what: Names it in messages.

    Raises:
        ArtifactError: It is damaged, no object, says a key twice, or holds a number of more than
            `MAX_JSON_DIGITS` digits. `Infinity` and `NaN`, which Python writes, are read.
    """
    try:
        tree = json.loads(
            data,
            object_pairs_hook=_without_duplicates,
            parse_int=_bounded_int,
        )
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{what}: damaged JSON: {error}; download the file again") from error
    if not isinstance(tree, dict):
        raise ArtifactError(f"{what}: a JSON object is expected, found {type(tree).__name__}")
    return tree


def describe_file(path: Path, *, name: str) -> Artifact:
    """Hash one file.

    Raises:
        ArtifactError: It cannot be read.
    """
    digest = hashlib.sha256()
    check_regular(path)
    try:
        with path.open("rb") as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                digest.update(chunk)
        return Artifact(name, digest.hexdigest(), path.stat().st_size)
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read: {error.strerror}") from error


def content_key(settings: object, inputs: Sequence[Artifact]) -> str:
    """Hash all that decides an output: same key, same output.

    Args:
        settings: JSON-safe.
        inputs: Every file that is read; what they are called does not count.
    """
    return digest_of([settings, sorted(one.sha256 for one in inputs)])


def digest_of(tree: object) -> str:
    """SHA-256 of a JSON-safe tree, whatever the order of its keys."""
    text = json.dumps(tree, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


@contextmanager
def whole(output: Path, *, replace: bool = False) -> Iterator[Path]:
    """Give a place to write a file or folder, which gets its name when all is there.

    Args:
        output: The final name.
        replace: Whether a file of this name may be replaced.

    Raises:
        ArtifactError: Something has this name already.
        ResourceError: It cannot be written there.
    """
    if replace and output.is_dir():
        raise ArtifactError(f"{output}: a folder has this name", "give the name of a file")
    if output.exists() and not (replace and output.is_file()):
        raise _taken(output)
    partial = _partial_of(output)
    try:
        with telling_where(output):
            output.parent.mkdir(parents=True, exist_ok=True)
            remove(partial)
            yield partial
            partial.replace(output)
    finally:
        remove(partial)


@contextmanager
def resumable(output: Path, key: str, *, leftovers: Sequence[str] = ()) -> Iterator[Path]:
    """Give a folder to work in: what an interrupted attempt at the same work left, or a new one.

    Args:
        output: The final name; the folder given is renamed to it.
        key: Of the work (`content_key`). What was left of other work may be hours of it, and is
            never removed.
        leftovers: Names in the folder that are removed when the work is done.

    Raises:
        ArtifactError: Something has the name of the output already, or other work was begun there.
        ResourceError: It cannot be written there, or another process is at it.
    """
    if output.exists():
        raise _taken(output)
    partial = _partial_of(output)
    with telling_where(output), locked(partial):
        mark = partial / KEY
        if mark.is_file() and mark.read_text(encoding="utf-8") != key:
            raise ArtifactError(
                f"{partial}: other work was begun here, of other inputs or settings",
                "remove it to begin anew, or give another {output}; the inputs and settings of "
                "before go on",
            )
        if not mark.is_file():
            for path in partial.iterdir():
                if path.name != LOCK:
                    remove(path)
            write_atomically(mark, key)
        yield partial
        for name in (*leftovers, KEY, LOCK):
            remove(partial / name)
            remove(_partial_of(partial / name))
        partial.rename(output)


def begins_as_gguf(file: Path) -> bool:
    """Whether a file begins with GGUF's four letters.

    Raises:
        OSError: It cannot be read.
    """
    with file.open("rb") as stream:
        return stream.read(len(GGUF_MAGIC)) == GGUF_MAGIC


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder, made if need be, for this process alone; let go however the process ends.

    A folder that was made and in which nothing came to be is gone again: no file in it has
    anything but the key of the work.

    Raises:
        ResourceError: Another process works in it; names its process id.
    """
    made = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("a+", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.seek(0)
            raise ResourceError(
                f"{folder}: process {lock.read().strip()} is working in this folder",
                "wait for it, or give another {output}",
            ) from error
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        try:
            yield
        finally:
            if made and folder.is_dir() and all(map(_is_nothing, folder.iterdir())):
                shutil.rmtree(folder)


def _is_nothing(path: Path) -> bool:
    return path.name in (KEY, LOCK) or (path.is_file() and not path.stat().st_size)


def is_locked(folder: Path) -> bool:
    """Whether a process holds a folder at this moment (`locked`)."""
    try:
        with (folder / LOCK).open(encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def user_cache() -> Path:
    """Where what can be made again is kept: `$XDG_CACHE_HOME/hanpaca`, or `~/.cache/hanpaca`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hanpaca"


def write_atomically(path: Path, text: str) -> None:
    """Write a text file so that it is either there as a whole or not at all."""
    partial = _partial_of(path)
    with partial.open("w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    partial.rename(path)


def remove(path: Path) -> None:
    """Remove a file or folder, if it is there; half a folder never stands under its name."""
    if path.is_dir() and not path.is_symlink():
        going = _partial_of(path)
        shutil.rmtree(going, ignore_errors=True)
        path.rename(going)
        shutil.rmtree(going)
    elif os.path.lexists(path):
        path.unlink()


@contextmanager
def telling_where(output: Path) -> Iterator[None]:
    """Say in one line what the system refused while something was written.

    Raises:
        ResourceError: In place of an `OSError`.
    """
    try:
        yield
    except OSError as error:
        told = error.strerror or error
        raise ResourceError(f"{error.filename or output}: cannot be written: {told}") from error


def _taken(output: Path) -> ArtifactError:
    return ArtifactError(f"{output}: already exists", "remove it or give another {output}")


def _partial_of(path: Path) -> Path:
    return path.with_name(path.name + PARTIAL)


def _without_duplicates(pairs: list[tuple[str, Any]]) -> Mapping[str, Any]:
    tree = dict(pairs)
    if len(tree) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"{twice!r} stands in it twice")
    return tree


def _bounded_int(digits: str) -> int:
    if len(digits) > MAX_JSON_DIGITS:
        raise ValueError(f"a number of {len(digits)} digits")
    return int(digits)
