"""Named corpora of the command line: `--text NAME=PATH`, or a path alone."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from hanpaca.cli.display import errors
from hanpaca.errors import RecipeError

_TELL_SECONDS = 5.0
HELP = "NAME=PATH or PATH: text file or folder; repeatable."


def named_lines(options: Sequence[str]) -> dict[str, Iterator[str]]:
    """Give the lines of each corpus, read when they are asked for.

    Raises:
        RecipeError: two corpora have one name, or a name is empty.
    """
    corpora: dict[str, Iterator[str]] = {}
    for option in options:
        name, path = _name_and_path(option)
        if not name or name in corpora:
            raise RecipeError(f"{option}: give it a name of its own: NAME={path}")
        corpora[name] = _told(name, _lines(path))
    return corpora


def _name_and_path(option: str) -> tuple[str, Path]:
    name, equals, path = option.partition("=")
    if not equals or Path(option).exists():
        return Path(option).name.partition(".")[0] or option, Path(option)
    return name.strip(), Path(path)


def _lines(path: Path) -> Iterator[str]:
    from hanpaca.data.text import read_documents

    for document in read_documents([path]):
        yield from (line for line in document.text.split("\n") if line.strip())


def _told(name: str, lines: Iterator[str]) -> Iterator[str]:
    """Pass lines on, and say on stderr how many, now and then."""
    started = last = time.monotonic()
    for number, line in enumerate(lines, start=1):
        now = time.monotonic()
        if now - last > _TELL_SECONDS:
            last = now
            rate = number / (now - started)
            errors.print(f"{name}: {number:,} lines, {rate:,.0f} a second", markup=False)
        yield line
