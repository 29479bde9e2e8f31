"""`hanpaca tokenizer compare` and `show`: several tokenizers side by side."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from hanpaca.cli.chat import Encoding, TextField
from hanpaca.cli.corpora import NamedTexts, named_lines
from hanpaca.cli.display import print_table
from hanpaca.report.pieces import visible

Tokenizers = Annotated[list[Path], typer.Argument(help="Folders or files of tokenizers.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
_STYLES = ("black on #a8d5f2", "black on #f8d9a0")  # neighbours, told apart
_NEW_STYLE = "bold black on #f0a8a0"


def compare(
    tokenizers: Tokenizers,
    text: NamedTexts,
    encoding: Encoding = "utf-8",
    text_field: TextField = "text",
    as_json: AsJson = False,
) -> None:
    """Measure tokens per character and encoding speed of tokenizers on texts."""
    from hanpaca.steps.compare_tokenizers import compare_tokenizers

    texts = named_lines(text, encoding=encoding, text_field=text_field)
    rows = [one.row() for one in compare_tokenizers(tokenizers, texts)]
    if as_json:
        print(json.dumps(rows, ensure_ascii=False, indent=2))
        return
    header = ("text", "tokenizer", "pieces", "characters", "tokens", "tokens/char", "chars/s")
    print_table(header, [_comparison_cells(row) for row in rows])


def _comparison_cells(row: dict[str, object]) -> tuple[str, ...]:
    return (
        str(row["text"]),
        str(row["tokenizer"]),
        f"{row['num_pieces']:,}",
        f"{row['num_characters']:,}",
        f"{row['num_tokens']:,}",
        f"{row['tokens_per_character']:.4f}",
        f"{row['characters_per_second']:,.0f}",
    )


def show(
    text: Annotated[str, typer.Argument(help="The text to cut.")],
    tokenizers: Tokenizers,
    as_json: AsJson = False,
) -> None:
    """Show the pieces of a text; red ones are not pieces of the first tokenizer's cut."""
    from hanpaca.steps.show import show as work

    shown = work(text, tokenizers)
    if as_json:
        print(json.dumps([one.row() for one in shown], ensure_ascii=False, indent=2))
        return
    first = shown[0].places(text)
    rows = [
        (
            one.tokenizer,
            str(one.num_tokens),
            f"{one.tokens_per_character:.3f}",
            _coloured(one.texts, [place in first for place in one.places(text)]),
        )
        for one in shown
    ]
    print_table(("tokenizer", "tokens", "tokens/char", "pieces"), rows)


def _coloured(pieces: Sequence[str], known: Sequence[bool]) -> Text:
    line = Text(overflow="fold")
    for number, (piece, same) in enumerate(zip(pieces, known, strict=True)):
        if number:
            line.append(" ")
        line.append(visible(piece), _STYLES[number % 2] if same else _NEW_STYLE)
    return line
