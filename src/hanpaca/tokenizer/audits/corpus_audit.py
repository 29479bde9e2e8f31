"""What two tokenizers make of one corpus: length, changes, cuts, round trips."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import regex
from tokenizers import Tokenizer

from hanpaca.tokenizer.audits.changes import ChangedStretch, Changes, Token
from hanpaca.tokenizer.extension.guarantees import is_coarsening
from hanpaca.tokenizer.extension.scripts import TargetScript
from hanpaca.tokenizer.sentencepiece_bpe import SentencePieceBPE
from hanpaca.tokenizer.vocabulary import Vocabulary

_BATCH_TEXTS = 512
_MAX_EXAMPLES = 10
_SCRIPTS = (
    "Latin", "Cyrillic", "Greek", "Hebrew", "Arabic", "Devanagari", "Bengali", "Thai",
    "Hangul", "Hiragana", "Katakana", "Han",
)  # fmt: skip
DIGITS = "digits"
SIGNS = "punctuation and symbols"


@dataclass(frozen=True)
class ScriptLength:
    """How long the runs of one script get; runs are encoded alone, as inside a text."""

    script: str
    """A Unicode script, the target scripts joined by "/", "digits", or signs. Runs of other than
    the target scripts are taken with the space before them."""
    num_characters: int
    """Characters of all runs."""
    num_tokens_before: int
    """Their tokens by the base."""
    num_tokens_after: int
    """Their tokens by the extended tokenizer."""

    @property
    def before(self) -> float:
        """Base tokens a character."""
        return self.num_tokens_before / self.num_characters

    @property
    def after(self) -> float:
        """Extended tokens a character."""
        return self.num_tokens_after / self.num_characters


@dataclass(frozen=True)
class CorpusAudit:
    """What changed in one corpus."""

    name: str
    """Of the corpus."""
    protected: bool
    """Whether its tokens should not change."""
    num_texts: int
    """How many texts (lines, where the command line read them) it has."""
    num_characters: int
    """Characters of all texts."""
    num_tokens_before: int
    """Tokens by the base."""
    num_tokens_after: int
    """Tokens by the extended tokenizer."""
    scripts: tuple[ScriptLength, ...]
    """The same for the runs of each script, the target's first."""
    num_changed: int
    """Texts whose tokens changed."""
    num_changed_without_target: int
    """Of these, texts without a letter of the target scripts; signs of theirs may be in them."""
    changes: tuple[ChangedStretch, ...]
    """The most frequent changed stretches of protected texts and of texts without such letters."""
    num_recut: int
    """Texts that are cut where the base does not cut (not a coarsening)."""
    recut: tuple[str, ...]
    """The first few of them."""
    num_lossy_before: int
    """Texts that the base does not give back after encoding and decoding."""
    num_lossy_after: int
    """The same of the extended tokenizer."""
    num_misread: int
    """Texts that come back other than from the base."""
    misread: tuple[str, ...]
    """The first few of them."""
    num_engine_dependent: int
    """Texts whose tokens depend on the engine, because pieces of equal score cannot be ordered as a
    merge list."""
    engine_dependent: tuple[str, ...]
    """The first few of them."""


@dataclass(frozen=True)
class Pair:
    """Two tokenizers, ready to be compared on texts."""

    old: Vocabulary
    """The base."""
    new: Vocabulary
    """The extended tokenizer."""
    by_ids: bool
    """Whether every entry of the base has the same id in the other, so that ids can be compared;
    otherwise only the cuts are."""
    script: TargetScript
    """The target scripts."""
    merge_list: tuple[SentencePieceBPE, Tokenizer] | None
    """Another engine's view of `new`, where it must differ."""
    old_surfaces: dict[int, bytes]
    """The bytes of each id of `old`."""
    new_surfaces: dict[int, bytes]
    """The bytes of each id of `new`."""


@dataclass
class _Tally:
    """What is counted while the texts pass by."""

    changes: Changes = field(default_factory=Changes)
    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)
    used: set[int] = field(default_factory=set)
    characters: Counter[str] = field(default_factory=Counter)
    before: Counter[str] = field(default_factory=Counter)
    after: Counter[str] = field(default_factory=Counter)

    def note(self, what: str, text: str) -> None:
        self.counts[what] += 1
        examples = self.examples.setdefault(what, [])
        if len(examples) < _MAX_EXAMPLES:
            examples.append(text)

    def first(self, what: str) -> tuple[str, ...]:
        return tuple(self.examples.get(what, ()))


def audit_corpus(
    name: str, texts: Iterable[str], pair: Pair, *, protected: bool
) -> tuple[CorpusAudit, set[int]]:
    """Read a corpus once, in batches; give what changed, and the new tokenizer's ids in it."""
    tally = _Tally()
    runs = _runs_pattern(pair.script)
    for batch in _batches(texts):
        _read_batch(batch, pair, tally, protected=protected)
        _measure_scripts(batch, pair, tally, runs)
    counts, target = tally.counts, _target_name(pair.script)
    order = sorted(tally.characters, key=lambda one: (one != target, -tally.characters[one]))
    audit = CorpusAudit(
        name=name,
        protected=protected,
        num_texts=counts["texts"],
        num_characters=counts["characters"],
        num_tokens_before=counts["tokens before"],
        num_tokens_after=counts["tokens after"],
        scripts=tuple(
            ScriptLength(one, tally.characters[one], tally.before[one], tally.after[one])
            for one in order
        ),
        num_changed=counts["changed"],
        num_changed_without_target=counts["changed without target"],
        changes=tally.changes.most_common(_MAX_EXAMPLES),
        num_recut=counts["recut"],
        recut=tally.first("recut"),
        num_lossy_before=counts["lossy before"],
        num_lossy_after=counts["lossy after"],
        num_misread=counts["misread"],
        misread=tally.first("misread"),
        num_engine_dependent=counts["engine"],
        engine_dependent=tally.first("engine"),
    )
    return audit, tally.used


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    stream = iter(texts)
    while batch := list(islice(stream, _BATCH_TEXTS)):
        yield batch


def _read_batch(texts: Sequence[str], pair: Pair, tally: _Tally, *, protected: bool) -> None:
    before, after = pair.old.encode(texts), pair.new.encode(texts)
    _count_round_trips(texts, pair.old.decode(before), pair.new.decode(after), tally)
    _count_engine_differences(texts, after, pair, tally)
    tally.counts["texts"] += len(texts)
    tally.counts["characters"] += sum(map(len, texts))
    tally.counts["tokens before"] += sum(map(len, before))
    tally.counts["tokens after"] += sum(map(len, after))
    for text, old_ids, new_ids in zip(texts, before, after, strict=True):
        tally.used.update(new_ids)
        if pair.by_ids and old_ids == new_ids:
            continue
        old = _tokens(old_ids, pair.old_surfaces, pair, text)
        new = _tokens(new_ids, pair.new_surfaces, pair, text)
        if old == new:
            continue
        has_target = bool(pair.script.runs.search(text))
        tally.note("changed", text)
        tally.counts["changed without target"] += not has_target
        if protected or not has_target:
            tally.changes.add(old, new)
        if not is_coarsening([surface for _, surface in old], [surface for _, surface in new]):
            tally.note("recut", text)


def _tokens(ids: Sequence[int], surfaces: dict[int, bytes], pair: Pair, text: str) -> list[Token]:
    if pair.by_ids:
        return [(token, surfaces[token]) for token in ids]
    cut = [surfaces[token] for token in ids]
    if b"".join(cut) == b" " + text.encode():  # the space that SentencePiece puts before a text
        cut[0] = cut[0][1:]
    return [(0, surface) for surface in cut if surface]


def _count_round_trips(
    texts: Sequence[str], before: Sequence[str], after: Sequence[str], tally: _Tally
) -> None:
    for text, old, new in zip(texts, before, after, strict=True):
        tally.counts["lossy before"] += old != text
        tally.counts["lossy after"] += new != text
        if old != new:
            tally.note("misread", text)


def _count_engine_differences(
    texts: Sequence[str], ids: Sequence[list[int]], pair: Pair, tally: _Tally
) -> None:
    if pair.merge_list is None:
        return
    tokenizer, other = pair.merge_list
    ready = [tokenizer.processor.normalize(text) for text in texts]
    encoded = other.encode_batch_fast(ready, add_special_tokens=False)
    for text, ours, theirs in zip(texts, ids, encoded, strict=True):
        if ours != theirs.ids:
            tally.note("engine", text)


def _target_name(script: TargetScript) -> str:
    return "/".join(script.names)


def _runs_pattern(script: TargetScript) -> tuple[tuple[str, ...], Any]:
    """Names, and a pattern whose groups are runs of each; the target takes what it owns."""
    names = (_target_name(script), *_SCRIPTS, DIGITS, SIGNS)
    other = [rf"( ?\p{{Script={name}}}+)" for name in _SCRIPTS]
    signs = [r"( ?\p{Nd}+)", r"( ?[\p{P}\p{S}]+)"]
    return names, regex.compile("|".join([f"({script.runs.pattern})", *other, *signs]))


def _measure_scripts(
    texts: Sequence[str], pair: Pair, tally: _Tally, runs: tuple[tuple[str, ...], Any]
) -> None:
    names, pattern = runs
    found = Counter((m.lastindex, m[0]) for text in texts for m in pattern.finditer(text))
    surfaces = [run.encode() for _, run in found]
    lengths = zip(found.items(), pair.old.spell(surfaces), pair.new.spell(surfaces), strict=True)
    for ((group, run), count), before, after in lengths:
        name = names[group - 1]
        tally.characters[name] += count * len(run)
        tally.before[name] += count * len(before)
        tally.after[name] += count * len(after)
