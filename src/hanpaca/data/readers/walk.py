"""Which documents lie in folders, through links, each once."""

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from hanpaca.data.files import COMPRESSIONS, LAYOUTS
from hanpaca.data.readers.parts import SUFFIXES
from hanpaca.errors import DataError

_Place = tuple[int, int]
"""Device and number of a folder."""


@dataclass
class Found:
    """What lies at some places."""

    files: list[Path] = field(default_factory=list)
    """Absolute, in a fixed order."""
    faults: list[str] = field(default_factory=list)
    """Folders and links that lead nowhere, a line each."""
    closed: list[Path] = field(default_factory=list)
    """Folders that could not be looked into."""
    passed_over: Counter[str] = field(default_factory=Counter)
    """Files of other kinds, by suffix."""
    _seen: set[_Place] = field(default_factory=set)

    def look_into(self, folder: Path, above: frozenset[_Place] = frozenset()) -> None:
        """Find the documents in a folder and below; what begins with a dot is passed over."""
        try:
            state = folder.stat()
            inside = sorted(folder.iterdir())
        except OSError as error:
            self.faults.append(f"{folder}: cannot be read: {error.strerror}")
            self.closed.append(folder)
            return
        here = (state.st_dev, state.st_ino)
        if here in above:
            self.faults.append(f"{folder}: a link led back to a folder above; not followed")
        if here in self._seen:
            return
        self._seen.add(here)
        for path in inside:
            if not path.name.startswith("."):
                self.take(path, above | {here})

    def take(self, path: Path, above: frozenset[_Place] = frozenset()) -> None:
        """Sort in what lies at a place."""
        if (shown := _shown(path)) != str(path):
            self.faults.append(f"{shown}: its name is not UTF-8; rename it")
        elif path.is_dir():
            self.look_into(path, above)
        elif path.is_symlink() and not path.exists():
            self.faults.append(f"{path}: a link to nothing")
        elif path.is_file() and is_document(path):
            self.files.append(path)
        else:
            self.passed_over[path.suffix.lower() or "without a suffix"] += 1


def _shown(path: Path) -> str:
    """A path that can be printed; files out of archives have names in other encodings."""
    return str(path).encode("utf-8", "replace").decode()


def find_papers(paths: Iterable[Path]) -> Found:
    """Find the documents at some places: files themselves, or all in folders.

    Raises:
        DataError: A file is of a kind that cannot be read.
    """
    found = Found()
    for path in paths:
        place = Path(os.path.abspath(path))  # noqa: PTH100  # links stay as they are named
        if place.is_dir():
            found.look_into(place)
        elif place.is_file():
            if not is_document(place):
                kinds = ", ".join(SUFFIXES)
                raise DataError(f"{path}: cannot read this kind of file; it can be {kinds}")
            found.take(place)
    found.files = list(dict.fromkeys(found.files))
    return found


def is_document(path: Path) -> bool:
    """Whether a file's name ends as one that can be read."""
    last = path.suffix.lower()
    if last in COMPRESSIONS:
        return Path(path.stem).suffix.lower() in LAYOUTS
    return last in SUFFIXES
