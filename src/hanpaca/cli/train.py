"""`hanpaca tokenizer train`: a tokenizer from scratch."""

from typing import TYPE_CHECKING, Annotated, get_args

import typer

from hanpaca.cli.tools import Encoding, Output, TextField, Texts, read_texts
from hanpaca.cli.whole import written_whole
from hanpaca.errors import RecipeError

if TYPE_CHECKING:
    from hanpaca.tokenizer.train import Kind


def train(
    text: Texts,
    output: Output,
    num_pieces: Annotated[int, typer.Option(help="Entries of the vocabulary, exactly.")],
    kind: Annotated[
        str, typer.Option(help="sentencepiece-bpe, sentencepiece-unigram or byte-bpe.")
    ] = "sentencepiece-bpe",
    encoding: Encoding = "utf-8",
    text_field: TextField = "text",
) -> None:
    """Train a tokenizer from scratch with LLaMA's settings; `extend` keeps an old one instead."""
    from hanpaca.tokenizer.train import train_tokenizer

    known = _kind(kind)
    texts = read_texts(text, encoding=encoding, text_field=text_field)
    with written_whole(output) as partial:
        train_tokenizer(texts, partial, kind=known, num_pieces=num_pieces)
    print(f"{output}: {num_pieces} pieces, {kind}")


def _kind(name: str) -> "Kind":
    from hanpaca.tokenizer.train import Kind

    known: tuple[Kind, ...] = get_args(Kind)
    for kind in known:
        if kind == name:
            return kind
    raise RecipeError(f"--kind: {name!r} is unknown; known: {', '.join(known)}")
