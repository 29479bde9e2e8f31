"""Train a tokenizer from scratch."""

from collections.abc import Iterable
from pathlib import Path

from hanpaca.files import whole
from hanpaca.tokenizer import train
from hanpaca.tokenizer.train import Kind


def train_tokenizer(
    texts: Iterable[str],
    output: Path | str,
    *,
    num_pieces: int,
    kind: Kind = "sentencepiece-bpe",
) -> None:
    """Train with LLaMA's settings and write a folder that `transformers.AutoTokenizer` loads.

    >>> train_tokenizer(["白日依山尽 the dog"], OUTPUT, num_pieces=260, kind="byte-bpe")

    Args:
        texts: Documents or lines, read once.
        output: Folder to write; must not exist.
        num_pieces: Entries of the vocabulary, exactly.
        kind: Which algorithm; SentencePiece also writes its `tokenizer.model`.

    Raises:
        RecipeError: `kind` is unknown, or `num_pieces` too small for the characters of the texts.
        DataError: The texts are empty, or too little for so many pieces.
        ArtifactError: `output` exists.
        ResourceError: A package is missing, or it cannot be written there.
    """
    with whole(Path(output)) as partial:
        train.train_tokenizer(texts, partial, kind=kind, num_pieces=num_pieces)
