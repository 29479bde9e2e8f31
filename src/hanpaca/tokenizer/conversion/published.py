"""The published way to give LLaMA Chinese pieces: put another model's pieces behind its own.

This is what Chinese-LLaMA-Alpaca did (Cui et al., arXiv 2304.08177), to the byte: every piece of
the added model that the base lacks is appended with score 0. It is here to reproduce and to compare
with. Score 0 ranks above all of the base's merges, so 345 of the 17,953 pieces can never occur, 194
of LLaMA's own no longer do, and English is cut differently; `hanpaca tokenizer extend` has none
of these faults.
"""

from pathlib import Path

from hanpaca.errors import ArtifactError
from hanpaca.tokenizer.sentencepiece_bpe import parse_model, read_sentencepiece

PAD = "[PAD]"


def merge_sentencepiece(base: Path, added: Path, *, pad: bool = False) -> tuple[bytes, int]:
    """Append to a SentencePiece BPE model the pieces of another one that it lacks.

    Args:
        base: `tokenizer.model` whose ids stay; BPE with byte fallback.
        added: a SentencePiece model of any type; its scores are dropped.
        pad: append the padding piece `[PAD]` too, as the instruction-tuned models have it.

    Returns:
        The bytes of the merged `tokenizer.model`, and the number of its pieces.

    Raises:
        ArtifactError: a file is missing, damaged or of the wrong kind, or has `[PAD]` already.
        ResourceError: the packages that read it are not installed.
    """
    if not added.is_file():
        raise ArtifactError(f"{added}: no such file; give a SentencePiece model")
    old = read_sentencepiece(base)
    merged = type(old.proto)()
    merged.CopyFrom(old.proto)
    more = [piece.piece for piece in parse_model(added.read_bytes(), path=added).pieces]
    if pad:
        if PAD in old.ids or PAD in more:
            raise ArtifactError(
                f"{added if PAD in more else base}: has {PAD} already", "leave out {pad}"
            )
        more.append(PAD)
    for piece in dict.fromkeys(more):
        if piece not in old.ids:
            merged.pieces.add(piece=piece, score=0.0)
    return merged.SerializeToString(), len(merged.pieces)
