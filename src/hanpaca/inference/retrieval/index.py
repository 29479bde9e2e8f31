"""Passages of documents in one SQLite file, kept whole: what changes, changes in transactions."""

import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Self

from hanpaca.data.readers.parts import TextPart
from hanpaca.errors import ArtifactError, ResourceError
from hanpaca.inference.retrieval.terms import terms_of

_APPLICATION = 0x48616E41
"""Marks the file as one of ours (`PRAGMA application_id`)."""
_VERSION = 3
_CACHE_KIB = 64 << 10
_ROWS = 500
"""Passages written at a time."""
_NOT_OURS, _GIVE = "not an index of documents", "give another {index}"
# The table of words keeps no text: what is taken out of it is worked out again from the passage.
# Its tokenizer parts at spaces, as it takes every character beyond ASCII for a letter.
# How many passages have a term is kept apart: FTS5 counts them one by one, 22 ms for a question of
# common terms to 100,000 passages.
_TABLES = """
CREATE TABLE files(
    id INTEGER PRIMARY KEY, path TEXT NOT NULL UNIQUE, state TEXT NOT NULL, note TEXT NOT NULL);
CREATE TABLE passages(
    id INTEGER PRIMARY KEY, file INTEGER NOT NULL REFERENCES files, unit TEXT NOT NULL,
    number INTEGER NOT NULL, num_terms INTEGER NOT NULL, text TEXT NOT NULL);
CREATE INDEX passages_of_file ON passages(file);
CREATE TABLE terms(term TEXT PRIMARY KEY, num_passages INTEGER NOT NULL) WITHOUT ROWID;
CREATE VIRTUAL TABLE words USING fts5(terms, content='', tokenize='ascii');
CREATE TABLE vectors(passage INTEGER PRIMARY KEY REFERENCES passages, vector BLOB NOT NULL);
CREATE TABLE embedder(place TEXT NOT NULL, key TEXT NOT NULL);
CREATE TABLE totals(num_passages INTEGER NOT NULL, num_terms INTEGER NOT NULL);
INSERT INTO totals VALUES(0, 0);
CREATE TRIGGER passage_added AFTER INSERT ON passages BEGIN
    UPDATE totals SET num_passages = num_passages + 1, num_terms = num_terms + new.num_terms; END;
CREATE TRIGGER passage_gone AFTER DELETE ON passages BEGIN
    UPDATE totals SET num_passages = num_passages - 1, num_terms = num_terms - old.num_terms;
    DELETE FROM vectors WHERE passage = old.id; END;
"""
_COUNT_TERM = (
    "INSERT INTO terms VALUES(?, ?) "
    "ON CONFLICT DO UPDATE SET num_passages = num_passages + excluded.num_passages"
)
_FORGET_TERMS = "INSERT INTO words(words, rowid, terms) VALUES('delete', ?, ?)"


@dataclass(frozen=True, slots=True)
class IndexedFile:
    """A file and what is known of it."""

    path: str
    state: str
    """Of the file when it was read; empty where it may have changed at that time."""
    note: str
    """What could not be read of it."""


class Index:
    """Passages by file and by term; use it as a context manager."""

    def __init__(self, path: Path, *, make: bool = False) -> None:
        """Open a file, or make it where there is none.

        Raises:
            ArtifactError: There is none, or it is no index.
            ResourceError: It cannot be made there.
        """
        if not make and not (path.is_file() and path.stat().st_size):
            raise ArtifactError(f"{path}: no index of documents", "make one with {ask_add()}")
        self.path = path
        self._counts: Counter[str] = Counter()
        """Passages that came or went with each term, in the change that is being made."""
        try:
            self.database = sqlite3.connect(path, isolation_level=None)
        except sqlite3.OperationalError as error:
            raise ResourceError(f"{path}: cannot be opened: {error}") from error
        try:
            with self._told():
                self._prepare()
        except BaseException:
            self.database.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.database.close()

    @property
    def num_passages(self) -> int:
        """Of all files."""
        return self.totals()[0]

    def totals(self) -> tuple[int, int]:
        """Passages and their terms, of all files."""
        (row,) = self.database.execute("SELECT num_passages, num_terms FROM totals")
        return row[0], row[1]

    def files(self) -> list[IndexedFile]:
        """All that were read, by path."""
        found = self.database.execute("SELECT path, state, note FROM files ORDER BY path")
        return [IndexedFile(*row) for row in found]

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Make changes that stay as a whole, or not at all where an error ends them.

        Raises:
            ResourceError: Another process is making some, or the disk is full.
        """
        with self._told():
            self.database.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._keep_counts()
            except BaseException:
                self.database.execute("ROLLBACK")
                raise
            finally:
                self._counts.clear()
            self.database.execute("COMMIT")

    def replace(self, file: IndexedFile, passages: Iterable[TextPart]) -> int:
        """Keep a file's passages in place of those of before; gives how many have terms.

        What an error of `passages` leaves is as before. Within `changing`.
        """
        self.database.execute("SAVEPOINT file")
        counts: Counter[str] = Counter()
        try:
            self._remove(file.path, counts)
            number = self._add(file, passages, counts)
        except BaseException:
            self.database.execute("ROLLBACK TO file")
            raise
        finally:
            self.database.execute("RELEASE file")
        self._counts.update(counts)
        return number

    def annotate(self, path: str, note: str) -> None:
        """Keep what could not be read of a file; within `changing`."""
        self.database.execute("UPDATE files SET note = ? WHERE path = ?", (note, path))

    def remove(self, path: str) -> None:
        """Forget a file and its passages; within `changing`."""
        self._remove(path, self._counts)

    def _remove(self, path: str, counts: Counter[str]) -> None:
        asked = (
            "SELECT passages.id, text FROM passages JOIN files ON file = files.id WHERE path = ?"
        )
        for number, text in self.database.execute(asked, (path,)).fetchall():
            terms = terms_of(text)
            counts.subtract(set(terms))
            self.database.execute(_FORGET_TERMS, (number, _written(terms)))
            self.database.execute("DELETE FROM passages WHERE id = ?", (number,))
        self.database.execute("DELETE FROM files WHERE path = ?", (path,))

    def _add(self, file: IndexedFile, passages: Iterable[TextPart], counts: Counter[str]) -> int:
        row = (file.path, file.state, file.note)
        added = self.database.execute("INSERT INTO files(path, state, note) VALUES(?, ?, ?)", row)
        (last,) = self.database.execute("SELECT coalesce(max(id), 0) FROM passages").fetchone()
        number = 0
        read = ((one, terms) for one in passages if (terms := terms_of(one.text)))
        while block := list(islice(read, _ROWS)):
            first = last + number + 1
            self.database.executemany(
                "INSERT INTO passages VALUES(?, ?, ?, ?, ?, ?)",
                (
                    (place, added.lastrowid, one.unit, one.number, len(terms), one.text)
                    for place, (one, terms) in enumerate(block, first)
                ),
            )
            self.database.executemany(
                "INSERT INTO words(rowid, terms) VALUES(?, ?)",
                ((place, _written(terms)) for place, (_, terms) in enumerate(block, first)),
            )
            for _, terms in block:
                counts.update(set(terms))
            number += len(block)
        return number

    def num_having(self, terms: Sequence[str]) -> dict[str, int]:
        """How many passages have each term, of those that any has."""
        holes = ",".join("?" * len(terms))
        asked = f"SELECT term, num_passages FROM terms WHERE term IN ({holes})"
        return {str(term): int(number) for term, number in self.database.execute(asked, terms)}

    def _keep_counts(self) -> None:
        changed = sorted((term, number) for term, number in self._counts.items() if number)
        self.database.executemany(_COUNT_TERM, changed)
        gone = ((term,) for term, number in changed if number < 0)
        self.database.executemany("DELETE FROM terms WHERE term = ? AND num_passages <= 0", gone)

    def _prepare(self) -> None:
        def pragma(name: str) -> int:
            return int(self.database.execute(f"PRAGMA {name}").fetchone()[0])

        tables = self.database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if tables and pragma("application_id") != _APPLICATION:
            raise ArtifactError(f"{self.path}: {_NOT_OURS}", _GIVE)
        if tables and pragma("user_version") != _VERSION:
            found = f"{self.path}: an index of another version ({pragma('user_version')})"
            raise ArtifactError(found, "remove it, and make it again with {ask_add()}")
        self.database.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        if not tables:
            self.database.executescript(
                f"BEGIN IMMEDIATE; {_TABLES} PRAGMA application_id = {_APPLICATION};"
                f"PRAGMA user_version = {_VERSION}; COMMIT;"
            )

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            raise ResourceError(f"{self.path}: cannot be used now: {error}") from error
        except sqlite3.DatabaseError as error:
            raise ArtifactError(f"{self.path}: {_NOT_OURS} ({error})", _GIVE) from error


def _written(terms: Sequence[str]) -> str:
    return " ".join(terms)
