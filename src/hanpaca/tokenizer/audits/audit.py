"""Measure what a tokenizer extension gained and what it broke, whoever made it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hanpaca.errors import DataError
from hanpaca.tokenizer.audits.corpus_audit import CorpusAudit, Pair, audit_corpus
from hanpaca.tokenizer.audits.junk import junk_pieces
from hanpaca.tokenizer.conversion.ties import NO_TIES, Ties, find_ties, merge_list_encoder
from hanpaca.tokenizer.extension.guarantees import dead_pieces, surfaces
from hanpaca.tokenizer.extension.guess import guess_scripts, named_or_guessed
from hanpaca.tokenizer.extension.scripts import TargetScript, target_script
from hanpaca.tokenizer.open import open_tokenizer
from hanpaca.tokenizer.sentencepiece_bpe import SentencePieceBPE
from hanpaca.tokenizer.vocabulary import Vocabulary, text_of

DIGITS_CORPUS = "digits (built in)"


@dataclass(frozen=True)
class Audit:
    """What changed between two tokenizers; `dataclasses.asdict` of it can be written as JSON.

    Pieces are shown as text. The two may be of different families: then pieces are the same that
    stand for the same bytes, and cuts are compared instead of ids.
    """

    scripts: tuple[str, ...]
    """Unicode script names of the target language."""
    same_family: bool
    """Whether both are byte-level BPE or both SentencePiece BPE."""
    num_pieces_before: int
    """Entries of the base, special ones too."""
    num_pieces_after: int
    """The same of the extended tokenizer."""
    num_new_pieces: int
    """Learned pieces that the base does not have."""
    moved_entries: tuple[str, ...]
    """Entries of the base that have another id now or are gone, as their file writes them; of
    tokenizers of one family."""
    dead_pieces: tuple[str, ...]
    """New pieces that no text can produce."""
    killed_pieces: tuple[str, ...]
    """Pieces of the base that texts could produce before but not after."""
    unused_pieces: tuple[str, ...]
    """New pieces that do not occur in the texts; all, where no texts are given."""
    junk: Mapping[str, tuple[str, ...]]
    """New pieces that are no words of the target language, by kind."""
    ties_before: Ties
    """Pieces of the base with equal score, on which engines may disagree."""
    ties_after: Ties
    """The same of the extended tokenizer."""
    corpora: tuple[CorpusAudit, ...]
    """What happened to each corpus."""

    @property
    def target(self) -> str:
        """The target scripts as one name."""
        return "/".join(self.scripts)

    @property
    def num_changed_protected(self) -> int:
        """Protected texts whose tokens changed."""
        return sum(corpus.num_changed for corpus in self.corpora if corpus.protected)

    @property
    def num_recut(self) -> int:
        """Texts cut at a place where the base does not cut."""
        return sum(corpus.num_recut for corpus in self.corpora)

    @property
    def num_round_trip_failures(self) -> int:
        """Texts that decode other than with the base."""
        return sum(corpus.num_misread for corpus in self.corpora)

    @property
    def target_tokens_per_character_before(self) -> float:
        """Base tokens for a character of the target scripts, over all texts."""
        return self._target_length("num_tokens_before")

    @property
    def target_tokens_per_character_after(self) -> float:
        """Extended tokens for a character of the target scripts, over all texts."""
        return self._target_length("num_tokens_after")

    def _target_length(self, tokens: str) -> float:
        texts = (corpus for corpus in self.corpora if not corpus.protected)
        found = [one for corpus in texts for one in corpus.scripts if one.script == self.target]
        num_characters = sum(one.num_characters for one in found)
        return sum(getattr(one, tokens) for one in found) / num_characters if found else 0.0


def audit_extension(
    base: Path,
    extended: Path,
    *,
    texts: Sequence[str],
    protected: Sequence[str],
    scripts: Sequence[str] = (),
) -> Audit:
    """Compare the tokenizers of two folders on one corpus of each kind; see `audit_tokenizers`."""
    return audit_tokenizers(
        open_tokenizer(base),
        open_tokenizer(extended),
        texts={"texts": texts},
        protected={"protected": protected},
        scripts=scripts,
    )


def audit_tokenizers(
    base: Vocabulary,
    extended: Vocabulary,
    *,
    texts: Mapping[str, Iterable[str]],
    protected: Mapping[str, Iterable[str]],
    scripts: Sequence[str] = (),
) -> Audit:
    """Compare two tokenizers, best an extension with its base, on any number of corpora.

    A few lines of numbers are always among the protected texts.

    Args:
        base: The first tokenizer.
        extended: The second.
        texts: Named text of the target language, best not the text the pieces were learned from.
            Each corpus is read once.
        protected: Named texts that should keep their tokens, such as English and code.
        scripts: Unicode script names of the target language.

    Raises:
        DataError: There are texts, but without target characters.
        RecipeError: A script name is wrong.
    """
    ties = _ties(extended)
    known = {base.surface(piece) for piece in base.ids}
    learned = {extended.surface(piece): piece for piece in _learned(extended)}
    new = {surface: piece for surface, piece in learned.items() if surface not in known}
    names, texts = _named_or_guessed(scripts, new, texts)
    pair = _pair(base, extended, target_script(names, in_english=True), ties)
    corpora, used = [], set()
    for name, corpus in texts.items():
        audit, found = audit_corpus(name, corpus, pair, protected=False)
        corpora.append(audit)
        used |= found
    _must_have_target(corpora, pair.script)
    for name, corpus in {**protected, DIGITS_CORPUS: number_lines()}.items():
        corpora.append(audit_corpus(name, corpus, pair, protected=True)[0])
    return Audit(
        scripts=names,
        same_family=type(base) is type(extended),
        num_pieces_before=len(base.ids),
        num_pieces_after=len(extended.ids),
        num_new_pieces=len(new),
        moved_entries=_moved(base, extended) if type(base) is type(extended) else (),
        dead_pieces=_shown(extended, dead_pieces(extended, new.values())),
        killed_pieces=_killed(base, extended, learned),
        unused_pieces=_shown(extended, (p for p in new.values() if extended.ids[p] not in used)),
        junk=junk_pieces(new.keys(), learned.keys(), pair.script),
        ties_before=_ties(base),
        ties_after=ties,
        corpora=tuple(corpora),
    )


def number_lines() -> list[str]:
    """Write numbers as texts have them; a tokenizer that cuts digits apart must go on doing so."""
    rows = []
    for number in range(0, 10_000, 37):
        year, month, day = 1900 + number % 131, 1 + number % 12, 1 + number % 28
        rows.append(f"{number} {number / 100:.2f} {number % 101}% -{number}")
        rows.append(f"{year}-{month:02}-{day:02} {number % 24:02}:{number % 60:02} ${number:,}.00")
    return rows


def _named_or_guessed(
    scripts: Sequence[str], new: Iterable[bytes], texts: Mapping[str, Iterable[str]]
) -> tuple[tuple[str, ...], Mapping[str, Iterable[str]]]:
    """Guess the scripts from what was added, or else from the first corpus."""
    if scripts:
        return tuple(scripts), texts
    try:
        return guess_scripts(surface.decode(errors="ignore") for surface in new), texts
    except DataError:
        if not texts:
            return ("Latin",), texts
    name, corpus = next(iter(texts.items()))
    names, corpus = named_or_guessed((), corpus)
    return names, {**texts, name: corpus}


def _pair(old: Vocabulary, new: Vocabulary, script: TargetScript, ties: Ties) -> Pair:
    merge_list = None
    if isinstance(new, SentencePieceBPE) and ties.num_unorderable:
        merge_list = (new, merge_list_encoder(new))
    by_ids = type(old) is type(new) and not _moved(old, new)
    return Pair(old, new, by_ids, script, merge_list, surfaces(old), surfaces(new))


def _ties(tokenizer: Vocabulary) -> Ties:
    return find_ties(tokenizer) if isinstance(tokenizer, SentencePieceBPE) else NO_TIES


def _must_have_target(texts: Sequence[CorpusAudit], script: TargetScript) -> None:
    target = "/".join(script.names)
    if texts and not any(one.script == target for corpus in texts for one in corpus.scripts):
        raise DataError(f"the texts have no {target} characters: give other texts")


def _learned(tokenizer: Vocabulary) -> list[str]:
    """All entries in the order of their ids, but those that are not made by merges."""
    learned = tokenizer.ids.keys() - tokenizer.special
    return sorted(learned, key=tokenizer.ids.__getitem__)


def _moved(old: Vocabulary, new: Vocabulary) -> tuple[str, ...]:
    return tuple(piece for piece, number in old.ids.items() if new.ids.get(piece) != number)


def _shown(tokenizer: Vocabulary, pieces: Iterable[str]) -> tuple[str, ...]:
    ordered = sorted(pieces, key=tokenizer.ids.__getitem__)
    return tuple(text_of(tokenizer.surface(piece)) for piece in ordered)


def _killed(old: Vocabulary, new: Vocabulary, learned: Mapping[bytes, str]) -> tuple[str, ...]:
    shared = {p: learned[s] for p in _learned(old) if (s := old.surface(p)) in learned}
    dead_now = set(dead_pieces(new, shared.values()))
    suspects = [piece for piece, same in shared.items() if same in dead_now]
    dead_before = set(dead_pieces(old, suspects))
    return _shown(old, (piece for piece in suspects if piece not in dead_before))
