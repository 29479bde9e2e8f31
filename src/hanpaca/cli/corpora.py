"""Text on the command line: what `--text` means and how it is read, for all tokenizer commands."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer

from hanpaca.cli.display import byte_counter
from hanpaca.errors import RecipeError

_KINDS = "[NAME=]PATH: text (.txt, .md, .jsonl, .parquet; packed or not) or a folder; repeatable."
NamedTexts = Annotated[list[str], typer.Option("--text", help=_KINDS)]
MaybeTexts = Annotated[list[str] | None, typer.Option("--text", help=_KINDS)]
Protected = Annotated[
    list[str] | None,
    typer.Option("--protected", "--protect", help=f"Text that must keep its tokens, {_KINDS}"),
]
Scripts = Annotated[
    list[str] | None,
    typer.Option("--script", "--scripts", help="Unicode script; repeatable. Else guessed."),
]


def documents(options: Sequence[str] | None, *, encoding: str, text_field: str) -> Iterator[str]:
    """Stream the documents of all corpora, with a progress line where it takes long."""
    paths = [_name_and_path(option)[1] for option in options or ()]
    return _read(paths, "reading", encoding=encoding, text_field=text_field)


def named_documents(
    options: Sequence[str], *, encoding: str, text_field: str
) -> dict[str, list[str]]:
    """Read the documents of each corpus.

    Raises:
        RecipeError: Two corpora have one name, or a name is empty.
    """
    return {
        name: list(_read([path], name, encoding=encoding, text_field=text_field))
        for name, path in _named(options).items()
    }


def named_lines(
    options: Sequence[str] | None, *, encoding: str, text_field: str
) -> dict[str, Iterator[str]]:
    """Give the lines of each corpus, read when they are asked for.

    Raises:
        RecipeError: Two corpora have one name, or a name is empty.
    """
    return {
        name: _lines(_read([path], name, encoding=encoding, text_field=text_field))
        for name, path in _named(options or ()).items()
    }


def _named(options: Sequence[str]) -> dict[str, Path]:
    corpora: dict[str, Path] = {}
    for option in options:
        name, path = _name_and_path(option)
        if not name or name in corpora:
            raise RecipeError(f"{option}: give it a name of its own: NAME={path}")
        corpora[name] = path
    return corpora


def _name_and_path(option: str) -> tuple[str, Path]:
    name, equals, path = option.partition("=")
    if not equals or Path(option).exists():
        return Path(option).name.partition(".")[0] or option, Path(option)
    return name.strip(), Path(path)


def _read(paths: Sequence[Path], doing: str, *, encoding: str, text_field: str) -> Iterator[str]:
    from hanpaca import read_documents

    found = read_documents(
        paths, encoding=encoding, text_field=text_field, on_bytes=byte_counter(doing)
    )
    return (document.text for document in found)


def _lines(texts: Iterator[str]) -> Iterator[str]:
    return (line for text in texts for line in text.split("\n") if line.strip())
