"""The plain files stages hand each other: one JSON object a line."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write one object a line, in UTF-8 without escapes."""
    with path.open("w", encoding="utf-8") as stream:
        for row in rows:
            stream.write(json.dumps(row, ensure_ascii=False) + "\n")


@dataclass(frozen=True)
class Written:
    """What was written."""

    num_documents: int
    num_characters: int


def write_texts(path: Path, texts: Iterable[str]) -> Written:
    """Write one document a line, as they come."""
    number = size = 0

    def rows() -> Iterator[dict[str, str]]:
        nonlocal number, size
        for text in texts:
            number += 1
            size += len(text)
            yield {"text": text}

    write_jsonl(path, rows())
    return Written(number, size)


def read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """Read what `write_jsonl` wrote."""
    with path.open(encoding="utf-8") as stream:
        for line in stream:
            yield json.loads(line)


def read_texts(path: Path) -> list[str]:
    """Read the `text` field of every line."""
    return [str(row["text"]) for row in read_jsonl(path)]


def appended_rows(file: Path) -> Iterator[dict[str, Any]]:
    """The rows of a file that was appended to; half a line of a process that died is taken off."""
    if not file.is_file():
        return
    with file.open("rb+") as stream:
        end = 0
        for line in stream:
            if not line.endswith(b"\n"):
                break
            end += len(line)
            yield json.loads(line)
        stream.truncate(end)
