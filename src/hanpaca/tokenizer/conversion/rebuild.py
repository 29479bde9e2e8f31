"""Make a SentencePiece model of the pieces, scores and types that another format kept of it.

Only what decides on ids is made: LLaMA's settings, with which text is taken as it is.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

from hanpaca.errors import ArtifactError
from hanpaca.tokenizer.sentencepiece_bpe import SentencePieceBPE, new_model, sentencepiece_of_proto

_BPE, _UNKNOWN, _NUM_BYTES = 2, 2, 256
_BYTE = 6


def rebuild_sentencepiece(
    pieces: Iterable[tuple[str, float, int]],
    *,
    space_prefix: bool,
    special: Mapping[str, int],
    path: Path,
) -> SentencePieceBPE:
    """Make a BPE model with byte fallback.

    Args:
        pieces: text, score and type (as `sentencepiece_model.proto` numbers them) in order of ids.
        space_prefix: a text is encoded as if a space stood before it.
        special: ids of "unk", "bos", "eos" and "pad", where there are such.
        path: where the pieces come from, for messages.

    Raises:
        ArtifactError: sentencepiece refuses the pieces, or byte pieces are missing.
        ResourceError: the packages that write it are not installed.
    """
    proto = new_model()
    for text, score, kind in pieces:
        proto.pieces.add(piece=text, score=score, type=kind)
    kinds = [piece.type for piece in proto.pieces]
    if kinds.count(_BYTE) != _NUM_BYTES or kinds.count(_UNKNOWN) != 1:
        raise ArtifactError(
            f"{path}: {kinds.count(_BYTE)} byte pieces and {kinds.count(_UNKNOWN)} unknown pieces; "
            f"a BPE model with byte fallback has {_NUM_BYTES} and 1"
        )
    trainer, normalizer = proto.trainer_spec, proto.normalizer_spec
    trainer.model_type, trainer.byte_fallback = _BPE, True
    trainer.vocab_size = len(kinds)
    for role in ("bos", "eos", "pad"):
        setattr(trainer, f"{role}_id", special.get(role, -1))
    trainer.unk_id = kinds.index(_UNKNOWN)
    for role, number in {**special, "unk": trainer.unk_id}.items():
        setattr(trainer, f"{role}_piece", proto.pieces[number].piece)
    normalizer.name = "identity"
    normalizer.add_dummy_prefix = space_prefix
    normalizer.remove_extra_whitespaces = False
    normalizer.escape_whitespaces = True
    return sentencepiece_of_proto(proto, path=path)
