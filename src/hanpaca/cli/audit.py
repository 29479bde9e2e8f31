"""`hanpaca tokenizer audit`: what an extension gained and what it broke."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from hanpaca.cli import corpora
from hanpaca.cli.display import print_table
from hanpaca.cli.pieces import visible
from hanpaca.cli.whole import written_whole

_SHOWN_CHANGES = 5

if TYPE_CHECKING:
    from hanpaca.tokenizer.audit import Audit


def audit(
    base: Annotated[Path, typer.Argument(help="Folder or file of the base tokenizer.")],
    extended: Annotated[Path, typer.Argument(help="Folder or file of the extended tokenizer.")],
    text: Annotated[list[str] | None, typer.Option(help=f"Target text, {corpora.HELP}")] = None,
    protected: Annotated[
        list[str] | None, typer.Option(help=f"Text whose tokens must not change, {corpora.HELP}")
    ] = None,
    script: Annotated[list[str] | None, typer.Option(help="Unicode script; repeatable.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
    html: Annotated[Path | None, typer.Option(help="Write a page with a plot here.")] = None,
) -> None:
    """Compare two tokenizers: dead, killed and junk pieces, changed text, tokens per character."""
    from hanpaca.tokenizer.audit import audit_tokenizers
    from hanpaca.tokenizer.audit_page import audit_page
    from hanpaca.tokenizer.reading import open_tokenizer

    found = audit_tokenizers(
        open_tokenizer(base),
        open_tokenizer(extended),
        texts=corpora.named_lines(text or []),
        protected=corpora.named_lines(protected or []),
        scripts=tuple(script or ["Han"]),
    )
    if html:
        page = audit_page(found, base=str(base), extended=str(extended))
        with written_whole(html, replace=True) as partial:
            partial.write_text(page, encoding="utf-8")
    if as_json:
        print(json.dumps(asdict(found), ensure_ascii=False, indent=2))
    else:
        _print(found)


def _print(found: "Audit") -> None:
    from hanpaca.tokenizer.audit_page import CORPUS_HEADER, corpus_rows, length_rows, summary_rows

    print_table(("what", "found"), summary_rows(found))
    print_table(CORPUS_HEADER, corpus_rows(found))
    print_table(
        ("tokens per character", "before", "after"),
        [(name, f"{before:.4f}", f"{after:.4f}") for name, before, after in length_rows(found)],
    )
    changes = [
        (corpus.name, f"{change.count:,}", _joined(change.before), _joined(change.after))
        for corpus in found.corpora
        for change in corpus.changes[:_SHOWN_CHANGES]
    ]
    if changes:
        print_table(("changed", "times", "before", "after"), changes)


def _joined(pieces: Sequence[str]) -> str:
    return escape(" ".join(map(visible, pieces)))
