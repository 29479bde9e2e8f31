"""The plain files stages hand each other: one JSON object a line."""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write one object a line, in UTF-8 without escapes."""
    with path.open("w", encoding="utf-8") as stream:
        for row in rows:
            stream.write(json.dumps(row, ensure_ascii=False) + "\n")


def read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """Read what `write_jsonl` wrote."""
    with path.open(encoding="utf-8") as stream:
        for line in stream:
            yield json.loads(line)


def read_texts(path: Path) -> list[str]:
    """Read the `text` field of every line."""
    return [str(row["text"]) for row in read_jsonl(path)]
