"""`hanpaca tokenizer audit`: what an extension gained and what it broke."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from hanpaca.cli.chat import Encoding, TextField
from hanpaca.cli.corpora import MaybeTexts, Protected, Scripts, named_lines
from hanpaca.cli.display import print_table
from hanpaca.cli.pages import Lang
from hanpaca.cli.words import speak_as
from hanpaca.report.pieces import visible
from hanpaca.report.wording import ENGLISH

_SHOWN_CHANGES = 5

if TYPE_CHECKING:
    from hanpaca.steps.audit import NamedAudit


def audit(
    base: Annotated[Path, typer.Argument(help="Folder or file of the base tokenizer.")],
    extended: Annotated[Path, typer.Argument(help="Folder or file of the extended tokenizer.")],
    text: MaybeTexts = None,
    protected: Protected = None,
    script: Scripts = None,
    encoding: Encoding = "utf-8",
    text_field: TextField = "text",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
    html: Annotated[Path | None, typer.Option(help="Write a page with a plot here.")] = None,
    lang: Lang = ENGLISH,
) -> None:
    """Compare two tokenizers: dead, killed and junk pieces, changed text, tokens per character."""
    from hanpaca.steps.audit import audit as work

    lang = speak_as(lang)
    found = work(
        base,
        extended,
        texts=named_lines(text, encoding=encoding, text_field=text_field),
        protected=named_lines(protected, encoding=encoding, text_field=text_field),
        scripts=script or (),
    )
    if html:
        found.write_page(html, lang=lang)
    if as_json:
        print(json.dumps(asdict(found), ensure_ascii=False, indent=2))
    else:
        _print(found)


def _print(found: "NamedAudit") -> None:
    from hanpaca.report import tokenizer_page as page

    print_table(page.SUMMARY_HEADER, page.summary_rows(found))
    print_table(page.CORPUS_HEADER, page.corpus_rows(found))
    print_table(("tokens per character", "before", "after"), page.length_cells(found))
    changes = [
        (corpus.name, f"{change.count:,}", _joined(change.before), _joined(change.after))
        for corpus in found.corpora
        for change in corpus.changes[:_SHOWN_CHANGES]
    ]
    if changes:
        print_table(("changed", "times", "before", "after"), changes)


def _joined(pieces: Sequence[str]) -> str:
    return escape(" ".join(map(visible, pieces)))
