"""Measure what a tokenizer extension gained and what it broke, whoever made it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hanpaca.errors import DataError
from hanpaca.tokenizer.byte_bpe import ByteBPE, read_byte_bpe, text_of_piece
from hanpaca.tokenizer.guarantees import (
    changed_texts,
    dead_pieces,
    misread_texts,
    recut_texts,
)
from hanpaca.tokenizer.scripts import target_script

_MAX_EXAMPLES = 10


@dataclass(frozen=True)
class Audit:
    """What changed between two tokenizers; `dataclasses.asdict` of it can be written as JSON.

    Pieces are shown as text. "Target" means the runs of target-script characters alone, which no
    digit or punctuation piece can flatter; "text" means the whole texts.

    Attributes:
        num_pieces_before: entries of the base, special ones too.
        num_pieces_after: the same of the extended tokenizer.
        target_tokens_per_character_before: base tokens for a target character.
        target_tokens_per_character_after: extended tokens for a target character.
        text_tokens_per_character_before: base tokens for a character of the whole texts.
        text_tokens_per_character_after: the same of the extended tokenizer.
        dead_pieces: new pieces that no text can produce.
        killed_pieces: pieces of the base that texts could produce before but not after.
        unused_pieces: new pieces that do not occur in the texts.
        num_changed_protected: protected texts whose ids changed.
        changed_protected: the first few of them.
        num_recut: texts cut at a place where the base does not cut (not a coarsening).
        recut: the first few of them.
        num_round_trip_failures: texts that decode other than with the base.
        round_trip_failures: the first few of them.
    """

    num_pieces_before: int
    num_pieces_after: int
    target_tokens_per_character_before: float
    target_tokens_per_character_after: float
    text_tokens_per_character_before: float
    text_tokens_per_character_after: float
    dead_pieces: tuple[str, ...]
    killed_pieces: tuple[str, ...]
    unused_pieces: tuple[str, ...]
    num_changed_protected: int
    changed_protected: tuple[str, ...]
    num_recut: int
    recut: tuple[str, ...]
    num_round_trip_failures: int
    round_trip_failures: tuple[str, ...]


def audit_extension(
    base: Path,
    extended: Path,
    *,
    texts: Sequence[str],
    protected: Sequence[str],
    scripts: Sequence[str] = ("Han",),
) -> Audit:
    """Compare two byte-level BPE tokenizers.

    Args:
        base: folder with the first `tokenizer.json`.
        extended: folder with the second.
        texts: text of the target language, best not the text the pieces were learned from.
        protected: texts that should keep their ids, such as English and code.
        scripts: Unicode script names of the target language.

    Raises:
        ArtifactError: one of the tokenizers cannot be read.
        DataError: the texts have no target characters.
        RecipeError: a script name is wrong.
    """
    pattern = target_script(scripts).runs
    old, new = read_byte_bpe(base), read_byte_bpe(extended)
    runs = [run for text in texts for run in pattern.findall(text)]
    if not runs:
        raise DataError(f"the texts have no {'/'.join(scripts)} characters: give other texts")
    new_pieces = _learned_pieces(new) - _learned_pieces(old)
    changed = changed_texts(old, new, protected)
    recut, misread = recut_texts(old, new, texts), misread_texts(old, new, texts)
    return Audit(
        num_pieces_before=len(old.ids),
        num_pieces_after=len(new.ids),
        target_tokens_per_character_before=_tokens_per_character(old, runs),
        target_tokens_per_character_after=_tokens_per_character(new, runs),
        text_tokens_per_character_before=_tokens_per_character(old, texts),
        text_tokens_per_character_after=_tokens_per_character(new, texts),
        dead_pieces=_shown(new, dead_pieces(new, new_pieces)),
        killed_pieces=_shown(old, _killed_pieces(old, new)),
        unused_pieces=_shown(new, _unused_pieces(new, new_pieces, texts)),
        num_changed_protected=len(changed),
        changed_protected=tuple(changed[:_MAX_EXAMPLES]),
        num_recut=len(recut),
        recut=tuple(recut[:_MAX_EXAMPLES]),
        num_round_trip_failures=len(misread),
        round_trip_failures=tuple(misread[:_MAX_EXAMPLES]),
    )


def _learned_pieces(tokenizer: ByteBPE) -> set[str]:
    """All entries but the special ones, which are found as strings and not by merges."""
    added = {token["content"] for token in tokenizer.spec.get("added_tokens") or ()}
    return tokenizer.ids.keys() - added


def _shown(tokenizer: ByteBPE, pieces: Sequence[str] | set[str]) -> tuple[str, ...]:
    return tuple(text_of_piece(piece) for piece in sorted(pieces, key=tokenizer.ids.__getitem__))


def _tokens_per_character(tokenizer: ByteBPE, texts: Sequence[str]) -> float:
    return sum(map(len, tokenizer.encode(texts))) / sum(map(len, texts))


def _killed_pieces(old: ByteBPE, new: ByteBPE) -> set[str]:
    shared = _learned_pieces(old) & _learned_pieces(new)
    return set(dead_pieces(new, shared)) - set(dead_pieces(old, shared))


def _unused_pieces(tokenizer: ByteBPE, pieces: set[str], texts: Sequence[str]) -> set[str]:
    used = {token for ids in tokenizer.encode(texts) for token in ids}
    return {piece for piece in pieces if tokenizer.ids[piece] not in used}
