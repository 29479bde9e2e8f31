"""`hanpaca compare`: runs side by side."""

from pathlib import Path
from typing import Annotated

import typer

from hanpaca.cli.display import errors, print_notes, print_table
from hanpaca.cli.options import AsJson
from hanpaca.cli.pages import Lang
from hanpaca.cli.words import speak_as
from hanpaca.report.wording import ENGLISH


def compare(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN…", help="Run folders, or what `eval --json` wrote.")
    ],
    page: Annotated[Path | None, typer.Option(help="Write a page with plots here.")] = None,
    lang: Lang = ENGLISH,
    as_json: AsJson = False,
    seed: Annotated[int, typer.Option(min=0, help="Of the intervals.")] = 0,
) -> None:
    """Put runs side by side: numbers, settings that differ, samples, where they come from.

    Each run is compared with the first, text by text where both were measured on the same.
    """
    from hanpaca.runs.compare import compare as work

    lang = speak_as(lang)
    found = work(runs, seed=seed)
    if page:
        found.page(page, lang=lang)
        errors.print(f"{page} written", markup=False, soft_wrap=True)
    if as_json:
        print(found.json())
        return
    for header, rows in found.tables:
        print_table(header, rows)
    print_notes(found.notes)
    print_notes(f"{names}: {note}" for names, note in found.own_notes)
