"""Rows to be checked, of texts and of conversations, with those that cannot be read among them."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import Any, Literal

from hanpaca.data.cleaning.encodings import UNKNOWN, FoundEncoding, find_encoding
from hanpaca.data.conversations import conversation_of
from hanpaca.data.documents import json_texts, read_documents, short_texts
from hanpaca.data.files import TextFile, json_file, text_files
from hanpaca.data.lines import read_lines
from hanpaca.data.parquet import read_parquet
from hanpaca.data.rows import read_rows
from hanpaca.errors import DataError, RecipeError

Kind = Literal["text", "instructions"]
Fault = Literal["", "unreadable", "no text", "empty answer"]
"""What is wrong with a row before any rule is asked."""
_ANSWERS = ("output", "messages", "conversations")
_PEEKED_LINES = 64
_HELD_PIECES = 64
"""Of a line; more than the reader takes, so that it refuses what is longer."""
_PACKED_JSON = (".json", ".json.gz", ".json.bz2", ".json.xz", ".json.zst")


def _ignore(_: int) -> None:
    """Tell nobody."""


@dataclass(frozen=True)
class Source:
    """A file that is checked, and what is known of it."""

    file: TextFile
    kind: Kind
    encoding: FoundEncoding

    @property
    def path(self) -> Path:
        """Where it is."""
        return self.file.path


@dataclass(frozen=True, slots=True)
class Row:
    """One document or conversation."""

    number: int
    """Its line, row, or place in a list, from 1."""
    text: str
    """What is measured and compared; of a conversation, all turns."""
    written: str
    """The line of JSON that keeps it."""
    fault: Fault = ""
    detail: str = ""
    """Of a row with a fault: what was found."""


def find_sources(paths: Sequence[Path], *, encoding: str, text_field: str) -> list[Source]:
    """List the files to check, in a fixed order.

    A `.json` file holds instructions; so does a `.jsonl` file if its first row has an answer and no
    text. All else is text.

    Args:
        paths: Files, or folders that are searched for text files.
        encoding: Of all files, by its Python name; "auto" to find it out for each.
        text_field: Where a line or row keeps its text.

    Raises:
        DataError: A path is missing, holds nothing readable, or is damaged.
        RecipeError: No path is given, a file comes twice, or texts and instructions are mixed.
    """
    if not paths:
        raise RecipeError("no text is named", "give {paths}")
    files = [file for path in paths for file in _files(path)]
    path, times = Counter(file.path for file in files).most_common(1)[0]
    if times > 1:
        raise RecipeError(f"{path}: given twice; every row of it would be a duplicate")
    found = []
    for file in files:
        told = find_encoding(file)
        if encoding != "auto":
            told = replace(told, name=encoding)
        found.append(Source(file, _kind(file, told, text_field), told))
    text = next((source.path for source in found if source.kind == "text"), None)
    if text and any(source.kind == "instructions" for source in found):
        raise RecipeError(f"{text}: is text, and other files are instructions; take them apart")
    return found


def read_source(
    source: Source, *, text_field: str, tell: Callable[[int], None] = _ignore
) -> Iterator[Row]:
    """Read all rows of a file, in order; those that cannot be read have a fault.

    Files are streamed; one row is held at a time.

    Args:
        source: The file.
        text_field: Where a line or row keeps its text.
        tell: Called with the number of bytes read from disk so far.

    Raises:
        DataError: The file is damaged or in another encoding: nothing can be read from there on.
        ResourceError: A file needs a package that is not installed.
    """
    encoding = "utf-8" if source.encoding.name == UNKNOWN else source.encoding.name
    if source.kind == "instructions":
        for place, row in read_rows(source.path, encoding=encoding):
            yield _conversation_row(place, row)
        return
    match source.file.layout:
        case "jsonl":
            lines = read_lines(source.file, encoding=encoding, tell=tell)
            yield from _json_rows(source.file, lines, text_field)
        case "parquet":
            for number, text in read_parquet(source.file, text_field=text_field, tell=tell):
                yield from _text_rows(number, text, "", text_field)
        case "paragraphs":
            found = read_documents(
                [source.path], encoding=encoding, on_bytes=lambda done, _: tell(done)
            )
            for document in found:
                number = int(document.source.rpartition(":")[2])
                yield Row(number, document.text, _line({text_field: document.text}))


def _files(path: Path) -> list[TextFile]:
    if path.name.lower().endswith(_PACKED_JSON):
        return [json_file(path)]
    return text_files(path)


def _kind(file: TextFile, encoding: FoundEncoding, text_field: str) -> Kind:
    if file.path.name.lower().endswith(_PACKED_JSON):
        return "instructions"
    if file.layout != "jsonl":
        return "text"
    name = "utf-8" if encoding.name == UNKNOWN else encoding.name
    try:
        for number, line in read_lines(file, encoding=name, tell=_ignore):
            if line.lstrip().startswith("["):
                return "instructions"
            row = _parsed(line)
            if isinstance(row, dict):
                is_text = isinstance(row.get(text_field), str)
                return "instructions" if not is_text and _has_answer(row) else "text"
            if number > _PEEKED_LINES:
                break
    except DataError:
        pass  # told where the file is read
    return "text"


def _has_answer(row: dict[str, Any]) -> bool:
    return any(key in row for key in _ANSWERS)


def _parsed(line: str) -> object:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _json_rows(file: TextFile, lines: Iterator[tuple[int, str]], text_field: str) -> Iterator[Row]:
    for number, pieces in groupby(lines, key=itemgetter(0)):
        held = list(islice(pieces, _HELD_PIECES))
        line = "".join(piece for _, piece in held).strip()
        try:
            for _, text in json_texts(file, iter(held), text_field):
                yield from _text_rows(number, text, line, text_field)
        except DataError as error:
            detail = error.message.removeprefix(f"{file.path}:{number}: ")
            yield Row(number, "", "", "unreadable", detail)


def _text_rows(number: int, text: str, line: str, text_field: str) -> Iterator[Row]:
    """A row as it was; one over the reader's limit in parts, as it is read for training."""
    parts = list(short_texts([(number, text)]))
    if not parts:
        yield Row(number, "", "", "no text", "the text is empty")
    for _, part in parts:
        is_whole = line and part == text
        yield Row(number, part, line if is_whole else _line({text_field: part}))


def _conversation_row(place: str, row: object) -> Row:
    number = int(place.rpartition(":")[2])
    if isinstance(row, dict) and _is_unanswered(row):
        return Row(number, "", "", "empty answer", "an answer is empty")
    try:
        conversation = conversation_of(row, place)
    except DataError as error:
        return Row(number, "", "", "unreadable", error.message.removeprefix(f"{place}: "))
    return Row(number, "\n".join(turn.content for turn in conversation), _line(row))


def _is_unanswered(row: dict[str, Any]) -> bool:
    """Tell whether an answer of a row is there but says nothing."""
    if "output" in row and _is_blank(row["output"]):
        return not any(row.get(key) for key in _ANSWERS[1:])
    turns = [turn for key in _ANSWERS[1:] for turn in _list(row.get(key)) if isinstance(turn, dict)]
    return any(
        _is_blank(turn.get("content", turn.get("value")))
        for turn in turns
        if turn.get("role", turn.get("from")) in ("assistant", "gpt")
    )


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _is_blank(value: object) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _line(row: object) -> str:
    line = json.dumps(row, ensure_ascii=False)
    return line if line.isascii() or _is_whole(line) else json.dumps(row)


def _is_whole(line: str) -> bool:
    """Tell whether a line has no half characters, which may stand in keys that are not read."""
    try:
        line.encode()
    except UnicodeEncodeError:
        return False
    return True
