"""`hanpaca tokenizer compare` and `show`: several tokenizers side by side."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from hanpaca.cli import corpora
from hanpaca.cli.display import print_table
from hanpaca.cli.pieces import visible
from hanpaca.errors import DataError, RecipeError

Tokenizers = Annotated[list[Path], typer.Argument(help="Folders or files of tokenizers.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
_STYLES = ("black on #a8d5f2", "black on #f8d9a0")  # neighbours, told apart
_NEW_STYLE = "bold black on #f0a8a0"


@dataclass(frozen=True)
class Shown:
    """How a tokenizer cuts a text; pieces as UTF-8 bytes, which need not be whole characters."""

    tokenizer: str
    num_tokens: int
    tokens_per_character: float
    ids: list[int]
    pieces: list[bytes]


def compare(
    tokenizers: Tokenizers,
    text: Annotated[list[str], typer.Option(help=corpora.HELP)],
    as_json: AsJson = False,
) -> None:
    """Measure tokens per character and encoding speed of tokenizers on texts."""
    from hanpaca.tokenizer.compare import measure
    from hanpaca.tokenizer.reading import open_tokenizer

    opened = [(str(path), open_tokenizer(path)) for path in tokenizers]
    rows = []
    for corpus, lines in corpora.named_lines(text).items():
        texts = list(lines)
        if not texts:
            raise DataError(f"--text {corpus}: has no text; give another")
        for name, tokenizer in opened:
            found = measure(tokenizer, texts)
            rows.append(
                {"text": corpus, "tokenizer": name, "num_pieces": len(tokenizer.ids)}
                | asdict(found)
                | {
                    "tokens_per_character": found.tokens_per_character,
                    "characters_per_second": found.characters_per_second,
                }
            )
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
    if not text:
        raise RecipeError("TEXT is empty: give some text")
    shown = [_shown(text, path) for path in tokenizers]
    if as_json:
        print(json.dumps([_as_json(one) for one in shown], ensure_ascii=False, indent=2))
        return
    first = _places(shown[0].pieces, text)
    print_table(
        ("tokenizer", "tokens", "tokens/char", "pieces"),
        [
            (
                one.tokenizer,
                str(one.num_tokens),
                f"{one.tokens_per_character:.3f}",
                _coloured(one.pieces, [place in first for place in _places(one.pieces, text)]),
            )
            for one in shown
        ],
    )


def _shown(text: str, path: Path) -> Shown:
    from hanpaca.tokenizer.guarantees import surfaces
    from hanpaca.tokenizer.reading import open_tokenizer

    tokenizer = open_tokenizer(path)
    ids = tokenizer.encode([text])[0]
    surface = surfaces(tokenizer)
    return Shown(str(path), len(ids), len(ids) / len(text), ids, [surface[one] for one in ids])


def _as_json(shown: Shown) -> dict[str, object]:
    """Pieces as text where they are whole characters; always as hexadecimal bytes too."""
    from hanpaca.tokenizer.vocabulary import text_of

    return asdict(shown) | {
        "pieces": [text_of(piece) for piece in shown.pieces],
        "bytes": [piece.hex() for piece in shown.pieces],
    }


def _places(pieces: Sequence[bytes], text: str) -> list[tuple[int, int]]:
    """Begin and end of each piece, in bytes before the end of the text.

    From the end, because SentencePiece puts a space before the text and byte-level BPE does not.
    """
    size, whole = len(text.encode()), sum(map(len, pieces))
    ends = [whole - end for end in accumulate(map(len, pieces), initial=0)]
    return [(min(a, size), min(b, size)) for a, b in pairwise(ends)]


def _coloured(pieces: Sequence[bytes], known: Sequence[bool]) -> Text:
    from hanpaca.tokenizer.vocabulary import text_of

    line = Text(overflow="fold")
    for number, (piece, same) in enumerate(zip(pieces, known, strict=True)):
        if number:
            line.append(" ")
        line.append(visible(text_of(piece)), _STYLES[number % 2] if same else _NEW_STYLE)
    return line
