"""`hanpaca data`: what is in training data, and the data without what should not be learned."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hanpaca import CleanSettings
from hanpaca.cli.chat import TextField
from hanpaca.cli.data_generate import generate
from hanpaca.cli.display import byte_counter, counter, errors, print_table
from hanpaca.cli.options import AsJson
from hanpaca.cli.sections import with_options_of
from hanpaca.errors import RecipeError
from hanpaca.progress import Progress, Tell

if TYPE_CHECKING:
    from hanpaca.data.cleaning.report import DataReport

data = typer.Typer(
    name="data", help="Check, clean and make text and instructions.", no_args_is_help=True
)
data.command("generate")(generate)
Paths = Annotated[
    list[Path],
    typer.Argument(
        help="Text (.txt, .md, .jsonl, .parquet), instructions (.json, .jsonl), folders."
    ),
]
Evaluation = Annotated[
    list[Path] | None,
    typer.Option(help="Evaluation file whose texts must not be in the data; repeatable."),
]
Encoding = Annotated[
    str, typer.Option("--encoding", help="Of all files, such as gb18030; auto finds it out.")
]


@data.command("check")
@with_options_of(CleanSettings)
def check(
    *,
    paths: Paths,
    tokenizer: Annotated[
        Path | None, typer.Option(help="Tokenizer to count tokens with: folder, .json or .model.")
    ] = None,
    block_tokens: Annotated[
        int | None, typer.Option(min=1, help="Count the rows of more tokens; needs --tokenizer.")
    ] = None,
    evaluation: Evaluation = None,
    encoding: Encoding = "auto",
    text_field: TextField = "text",
    as_json: AsJson = False,
    settings: CleanSettings,
) -> None:
    """Count rows, lengths, scripts, duplicates, leaks and what cannot be read."""
    from hanpaca.steps.check_data import check_data

    if block_tokens is not None and tokenizer is None:
        raise RecipeError("--block-tokens: tokens are counted with a tokenizer: give --tokenizer")
    found = check_data(
        paths,
        settings=settings,
        tokenizer=tokenizer,
        block_tokens=block_tokens,
        evaluation=evaluation or (),
        encoding=encoding,
        text_field=text_field,
        tell=_teller(),
    )
    _show(found, as_json=as_json)


@data.command("clean")
@with_options_of(CleanSettings)
def clean(
    *,
    paths: Paths,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="File .jsonl to write; must not exist.")
    ],
    dropped: Annotated[
        Path | None, typer.Option(help="Write every row that goes, and why, into this .jsonl file.")
    ] = None,
    evaluation: Evaluation = None,
    encoding: Encoding = "auto",
    text_field: TextField = "text",
    as_json: AsJson = False,
    settings: CleanSettings,
) -> None:
    """Write the rows that no rule lets go into one file, in their order, as they are."""
    from hanpaca.steps.clean_data import clean_data

    found = clean_data(
        paths,
        output,
        settings=settings,
        dropped=dropped,
        evaluation=evaluation or (),
        encoding=encoding,
        text_field=text_field,
        tell=_teller(),
    )
    _show(found, as_json=as_json)
    if not as_json:
        print(f"{output}: {found.num_kept:,} of {found.num_rows:,} rows")


def _teller() -> Tell:
    """Progress lines, one kind for each thing that is done."""
    lines: dict[str, Callable[[int, int], None]] = {}

    def tell(progress: Progress) -> None:
        make = byte_counter if progress.unit == "bytes" else counter
        line = lines.setdefault(progress.note, make(progress.note))
        line(int(progress.done), int(progress.total or 0))

    return tell


def _show(found: "DataReport", *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(found.tree(), ensure_ascii=False, indent=2))
        return
    print_table(
        ("file", "kind", "encoding", "MB", "rows"),
        [
            (one.path, one.kind, one.encoding, f"{one.num_bytes / 1e6:.1f}", f"{one.num_rows:,}")
            for one in found.files
        ],
    )
    print_table(("what", "found"), found.rows())
    for line in (*found.broken, *found.unreadable, *found.repeated):
        errors.print(line, markup=False, soft_wrap=True)
