"""Merge two SentencePiece models the published way."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from hanpaca.files import whole
from hanpaca.tokenizer.conversion import published


@dataclass(frozen=True)
class MergedModel:
    """The `tokenizer.model` that was written."""

    num_pieces: int
    sha256: str


def merge_sentencepiece(
    base: Path | str, added: Path | str, output: Path | str, *, pad: bool = False
) -> MergedModel:
    """Merge two SentencePiece models as Chinese-LLaMA did, to the byte; `extend` is better.

    Args:
        base: BPE model; its ids stay.
        added: Model with more pieces.
        output: File to write; must not exist.
        pad: Append `[PAD]` too.

    Raises:
        ArtifactError: A file is missing, damaged or of the wrong kind, or `output` exists.
        ResourceError: A package is missing, or it cannot be written there.
    """
    with whole(Path(output)) as partial:
        data, num_pieces = published.merge_sentencepiece(Path(base), Path(added), pad=pad)
        partial.write_bytes(data)
    return MergedModel(num_pieces, hashlib.sha256(data).hexdigest())
