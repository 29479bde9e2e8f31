"""The items of a JSON list one after another, however long the list is."""

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from hanpaca.data.lines import MAX_ROW_CHARACTERS
from hanpaca.errors import DataError

ADVICE = "mend the row, or set {skip_bad_rows} to leave such rows out"
_BRACKETS = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[\[{]|[\]}]|"', re.DOTALL)
_SPACE = re.compile(r"[ \t\n\r]*")


def parse_row(text: str, place: str) -> Any:  # noqa: ANN401  # whatever the user wrote
    """Parse one row; what is no JSON comes back as the `DataError` that says so."""
    try:
        return _DECODER.decode(text)
    except (ValueError, RecursionError) as error:
        return _not_json(error, place, getattr(error, "lineno", 0))


def read_list(blocks: Iterable[str], path: Path) -> Iterator[tuple[str, Any]]:
    """Yield each item of a list with its place, `file:number` from 1.

    An item that is no JSON comes as the `DataError` that says so; where it ends is told by its
    brackets, and the list goes on after it. No more than one item and one block is held.

    Args:
        blocks: The text, in pieces of any size.
        path: For places.

    Raises:
        DataError: The list itself is broken: it does not end, or something follows it.
    """
    text = _Text(iter(blocks))
    text.expect("[")
    number = 0
    while text.peek() != "]" or number:
        number += 1
        place = f"{path}:{number}"
        if text.peek() == "]":
            yield place, _bad(place, "a comma before the end of the list", text.line)
            break
        yield place, _item(text, place)
        follows = text.peek()
        if follows == "]":
            break
        if follows != ",":
            told = f"',' or ']' is expected after this row, not {follows!r}"
            if not follows:
                told = "the list does not end; the file is cut off"
            raise _bad(place, told, text.line)
        text.expect(",")
    text.expect("]")
    if follows := text.peek():
        raise _bad(f"{path}:{number}", f"{follows!r} follows the end of the list", text.line)


def _item(text: "_Text", place: str) -> Any:  # noqa: ANN401  # whatever the user wrote
    while True:
        try:
            item, end = _DECODER.raw_decode(text.held, text.at)
        except (ValueError, RecursionError) as error:
            told = _not_json(error, place, text.line_of(error))
            end = text.end_of_item()
        else:
            # A number that ends where the text does may go on.
            if end < len(text.held) or text.is_all or text.held[end - 1] in '}]"':
                text.at = end
                return item
            end = 0
        if end:
            text.at = end
            return told
        if text.is_all:
            raise told
        text.read_on(place)


class _Text:
    """A text that is read in blocks, and how far it was taken."""

    def __init__(self, blocks: Iterator[str]) -> None:
        self.held, self.at, self.is_all = "", 0, False
        self._blocks = blocks
        self._lines_before = 1

    @property
    def line(self) -> int:
        """Where the next character stands, from 1."""
        return self._lines_before + self.held.count("\n", 0, self.at)

    def line_of(self, error: Exception) -> int:
        """Where an error of the decoder was found."""
        end = error.pos if isinstance(error, json.JSONDecodeError) else self.at
        return self._lines_before + self.held.count("\n", 0, end)

    def peek(self) -> str:
        """The next character that is no white space; nothing at the end."""
        while True:
            self.at = _end_of_space(self.held, self.at)
            if self.at < len(self.held) or self.is_all:
                return self.held[self.at : self.at + 1]
            self._next_block()

    def expect(self, character: str) -> None:
        """Go past a character that `peek` has seen."""
        if self.peek() == character:
            self.at += 1

    def end_of_item(self) -> int:
        """Where the value that begins here ends by its brackets and quotes; 0 if it does not."""
        depth = 0
        if self.held[self.at : self.at + 1] not in ("{", "[", '"'):
            ends = [self.held.find(mark, self.at) for mark in ",]"]
            return min((end for end in ends if end >= 0), default=0)
        for found in _BRACKETS.finditer(self.held, self.at):
            mark = found[0]
            if mark == '"':  # not closed
                return 0
            depth += (mark in "{[") - (mark in "}]")
            if depth <= 0:
                return found.end()
        return 0

    def read_on(self, place: str) -> None:
        """Hold twice as much, so that a long item is not parsed anew for each block.

        Raises:
            DataError: It would be more than a row can have.
        """
        size = len(self.held) - self.at
        if size > MAX_ROW_CHARACTERS:
            raise _bad(place, f"a row of more than {MAX_ROW_CHARACTERS} characters", self.line)
        self._next_block()
        while not self.is_all and len(self.held) - self.at < 2 * size:
            self._next_block()

    def _next_block(self) -> None:
        block = next(self._blocks, "")
        self.is_all = not block
        self._lines_before += self.held.count("\n", 0, self.at)
        self.held, self.at = self.held[self.at :] + block, 0


def _end_of_space(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at


def _bad(place: str, reason: str, line: int) -> DataError:
    return DataError(f"{place}: not JSON: {reason} (line {line})", ADVICE)


def _not_json(error: ValueError | RecursionError, place: str, line: int) -> DataError:
    if isinstance(error, json.JSONDecodeError):
        return _bad(place, error.msg, line)
    # A key twice, a number of thousands of digits, or brackets without end.
    told = "nested too deeply" if isinstance(error, RecursionError) else error
    return DataError(f"{place}: not JSON that can be read: {told}", ADVICE)


def _said_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    tree = dict(pairs)
    if len(tree) < len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise ValueError(f"the key {key!r} stands there twice")
            seen.add(key)
    return tree


_DECODER = json.JSONDecoder(object_pairs_hook=_said_once)
