"""The texts of evaluation files, to be looked for in training data."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from hanpaca.data.documents import read_documents
from hanpaca.data.files import json_file, text_files
from hanpaca.data.rows import read_rows
from hanpaca.errors import DataError


def evaluation_texts(paths: Sequence[Path]) -> Iterator[str]:
    """Read every text of evaluation files by itself: a row's question, each choice, its answer.

    Args:
        paths: `.json` or `.jsonl` files, of which every text in every row counts, or text in other
            layouts, of which every document does; or folders of such files. Packed or not.

    Raises:
        DataError: A path is missing, or holds nothing readable, or a row cannot be read.
        ResourceError: A file needs a package that is not installed.
    """
    for path in paths:
        is_json = ".json" in path.suffixes[-2:]
        for file in [json_file(path)] if is_json else text_files(path):
            if file.layout == "jsonl":
                for _, row in read_rows(file.path, encoding="utf-8"):
                    if isinstance(row, DataError):
                        raise row
                    yield from _texts(row)
            else:
                yield from (document.text for document in read_documents([file.path]))


def _texts(value: object) -> Iterator[str]:
    match value:
        case str():
            yield value
        case dict():
            for one in value.values():
                yield from _texts(one)
        case list():
            for one in value:
                yield from _texts(one)
