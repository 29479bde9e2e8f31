"""The command prune."""

from typing import Annotated

import typer

from hanpaca.cli.chat import BaseFolder, Encoding, Output, TextField
from hanpaca.cli.corpora import Protected, documents
from hanpaca.cli.display import errors
from hanpaca.errors import RecipeError
from hanpaca.progress import Progress

_SHOWN = 12


def prune(
    base: BaseFolder,
    output: Output,
    protect: Protected = None,
    num_pieces: Annotated[
        int | None,
        typer.Option(min=1, help="Entries to take out, rarest first; else all that can be."),
    ] = None,
    encoding: Encoding = "utf-8",
    text_field: TextField = "text",
) -> None:
    """Take entries out of a vocabulary that protected text never needs; it keeps its tokens.

    Before `tokenizer extend` it makes room: as many out as in, and the model stays as large.
    """
    from hanpaca.steps.prune import prune as work

    if not protect:
        raise RecipeError(
            "nothing to protect, so everything would go: give --protect, best some megabytes of "
            "every language that the model is to keep, the new one too"
        )
    texts = documents(protect, encoding=encoding, text_field=text_field)
    found = work(base, texts, output, num_pieces=num_pieces, tell=_tell)
    rows = f", {found.rows_dropped:,} rows less" if found.rows_dropped else ""
    print(f"{output}: {found.num_before:,} entries before, {found.num_after:,} now{rows}")
    print(
        f"{found.num_unused:,} are in no protected text and could go; gone first: "
        + ", ".join(map(repr, found.dropped[:_SHOWN]))
    )
    if found.unseen_growth is None:
        print("too little text is protected to tell what other text of the kind takes more")
    else:
        print(f"other text of the kind takes about {found.unseen_growth:.2%} more tokens")


def _tell(progress: Progress) -> None:
    errors.print(progress.note, markup=False)
