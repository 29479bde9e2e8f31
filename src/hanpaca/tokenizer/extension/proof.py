"""Prove what an extension promises on the finished tokenizer, before anything is written."""

from collections.abc import Mapping, Sequence

from hanpaca.errors import ArtifactError
from hanpaca.tokenizer.byte_bpe import ByteBPE
from hanpaca.tokenizer.conversion.probe import PROBE
from hanpaca.tokenizer.conversion.tokenizer_json import differing_texts, spec_of_sentencepiece
from hanpaca.tokenizer.extension.guarantees import (
    changed_texts,
    dead_pieces,
    misread_texts,
    recut_texts,
)
from hanpaca.tokenizer.extension.scripts import TargetScript
from hanpaca.tokenizer.open import Extendable
from hanpaca.tokenizer.sentencepiece_bpe import CONTROL, UNKNOWN
from hanpaca.tokenizer.vocabulary import text_of


def unreachable(new: Extendable, pieces: Sequence[str]) -> list[str]:
    """List pieces that no text can produce, nor the merges alone (Llama 3 looks up whole words)."""
    dead = dead_pieces(new, pieces)
    if isinstance(new, ByteBPE):
        dead += [piece for piece in pieces if new.split(piece) != [piece]]
    return dead


def check_extension(
    base: Extendable,
    new: Extendable,
    *,
    pieces: Sequence[str],
    required: Sequence[str],
    script: TargetScript,
    sample: Sequence[str],
) -> None:
    """Check every guarantee; a failure means that the base is unusual.

    Args:
        base: The tokenizer before.
        new: The extended one.
        pieces: The new entries, in the order of their ids.
        required: Characters that must be one token each.
        script: What the pieces are made of.
        sample: Texts to try both on.

    Raises:
        ArtifactError: One does not hold: says which, how often, and an example.
    """
    other = [part for text in (*sample, *PROBE) for part in script.characters.split(text) if part]
    texts = [*sample, *PROBE, *map(" ".join, zip(PROBE, sample, strict=False))]
    expected_ids = base.ids | {piece: i for i, piece in enumerate(pieces, start=base.next_id)}
    spelled = zip(required, new.spell([one.encode() for one in required]), strict=True)
    refuse_faults(
        base,
        {
            "ids of old entries moved": [] if new.ids == expected_ids else ["its vocabulary"],
            "unreachable new piece": [
                text_of(new.surface(piece)) for piece in unreachable(new, pieces)
            ],
            "required character of several tokens": [one for one, ids in spelled if len(ids) > 1],
            "new ids in text of other scripts": changed_texts(base, new, other),
            "not a coarsening of the base": recut_texts(base, new, texts),
            "decodes other than the base": misread_texts(base, new, texts),
            "tokenizer.json gives other ids than tokenizer.model": disagreements(new, texts),
        },
    )


def check_protected(base: Extendable, new: Extendable, protected: Sequence[str]) -> None:
    """Check that protected texts keep their ids.

    Raises:
        ArtifactError: One does not.
    """
    refuse_faults(base, {"new ids in protected text": changed_texts(base, new, protected)})


def disagreements(new: Extendable, texts: Sequence[str]) -> list[str]:
    """Find the texts that `tokenizer.json` encodes other than `tokenizer.model`, where both are."""
    if isinstance(new, ByteBPE):
        return []  # it has one file only
    # `<s>` in a text is the token for tokenizer.json, as templates need it, and no piece for
    # sentencepiece; other texts must agree.
    control = [piece.piece for piece in new.proto.pieces if piece.type in (UNKNOWN, CONTROL)]
    plain = [text for text in texts if not any(token in text for token in control)]
    return differing_texts(new, spec_of_sentencepiece(new), plain)


def refuse_faults(
    base: Extendable, faults: Mapping[str, Sequence[str]], *, doing: str = "extended"
) -> None:
    """Refuse what breaks a promise.

    Args:
        base: The tokenizer that was changed.
        faults: Each promise that could be broken, with examples of where it is.
        doing: What was done with it.

    Raises:
        ArtifactError: There are such examples.
    """
    for fault, examples in faults.items():
        if examples:
            raise ArtifactError(
                f"{base.path}: cannot be {doing} safely: {fault}, {len(examples)} times, such as "
                f"{examples[0][:60]!r}; please report this tokenizer"
            )
