"""Take entries out of a vocabulary that texts never need, so that these texts stay cut as they are.

BPE builds a token step by step, and what forms between its first and its last byte depends on these
bytes alone. So all that ever forms while a text is encoded are its tokens and what each of them is
built of. An entry that is neither is never made there; without it every other merge happens as
before, in the same order. Such entries are taken out from the last learned, the rarest, on, and
never one that a remaining entry is built of, so that no other entry becomes unreachable.

Trimming a vocabulary to what texts use is old (Abdaoui et al. 2020, "Load What You Need",
arXiv 2010.05609; Ushio et al. 2023, arXiv 2305.15020); new here is that protected text provably
keeps its tokens, as merges are followed and not frequencies alone.
"""

import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from tokenizers import Tokenizer

from hanpaca.errors import DataError, RecipeError
from hanpaca.tokenizer.byte_bpe import ByteBPE
from hanpaca.tokenizer.conversion.probe import PROBE
from hanpaca.tokenizer.conversion.tokenizer_json import spec_of_sentencepiece
from hanpaca.tokenizer.extension.guarantees import dead_pieces, misread_texts
from hanpaca.tokenizer.extension.proof import disagreements, refuse_faults
from hanpaca.tokenizer.open import Extendable
from hanpaca.tokenizer.vocabulary import text_of

_BATCH_TEXTS = 1_000
_STRETCH_TOKENS, _ONE_IN = 10_000, 10
_MOST_CHECKED = 2_000_000
"""Characters of protected text that the finished tokenizer is tried on."""
_EDGE = 40
"""Characters of a document that stand beside the blank line that may have ended it."""
_GAPS = ("\n", "\n\n", "\n\n\n", "\r\n\r\n")
Rank = Callable[[str, str], float | None]
"""How late two neighbours are joined; None: never."""


@dataclass(frozen=True)
class Pruned:
    """A vocabulary without some of its entries."""

    tokenizer: Extendable
    """The smaller tokenizer; its ids have no holes."""
    kept_ids: tuple[int, ...]
    """For each id, the id that the entry had before."""
    dropped: tuple[str, ...]
    """The entries that are gone, as text, the last learned first."""
    num_unused: int
    """How many entries could have been taken out."""
    unseen_growth: float | None
    """Share of tokens that text like the protected takes more where it is not protected: measured
    on one stretch of 10,000 tokens in ten with what the others alone protect. None where there is
    too little text."""


@dataclass
class _Seen:
    """What protected texts are made of."""

    always: set[int]
    """Ids at the edges of texts, and where the tokenizer's files differ."""
    learned: set[int]
    """Ids in nine stretches of ten."""
    aside: Counter[int]
    """Ids in the tenth, and how often."""
    sample: list[str]
    """The first of the texts, whole."""
    num_tokens: int = 0


def prune_tokenizer(
    base: Extendable,
    texts: Iterable[str],
    *,
    num_pieces: int | None = None,
    keep: Collection[str] = (),
    also: Sequence[str] = (),
) -> Pruned:
    """Take out entries that no text needs; special tokens, bytes and white space always stay.

    Args:
        base: What is made smaller.
        texts: All that must keep its tokens, of every language that counts; best some megabytes.
            They may have stood between blank lines.
        num_pieces: Entries to take out, the last learned first; None for all that can be.
        keep: Entries that stay whatever the texts are.
        also: Texts that keep their tokens as well, such as what a chat template writes.

    Raises:
        RecipeError: `num_pieces` is less than one.
        DataError: There is no text, or so many entries cannot be taken out.
        ArtifactError: The result fails its own check.
    """
    if num_pieces is not None and num_pieces < 1:
        raise RecipeError(f"num_pieces is {num_pieces}: take out at least 1, or leave it away")
    seen = _seen(base, texts, also)
    if not seen.num_tokens:
        raise DataError("there is no text to protect")
    builds = built_of(base)
    kept = {base.ids[piece] for piece in keep}
    unused = _unneeded(base, builds, kept | seen.always | seen.learned | seen.aside.keys())
    if not unused:
        raise DataError("the protected text needs every entry: there is nothing to take out")
    if num_pieces is not None and num_pieces > len(unused):
        raise DataError(
            f"only {len(unused):,} of {len(base.ids):,} entries are in no protected text and in "
            f"nothing that remains, so {num_pieces:,} cannot be taken out: ask for fewer, or "
            "protect less text"
        )
    dropped = unused[:num_pieces]
    new, kept_ids = base.without(dropped)
    _check(base, new, dropped, seen.sample)
    return Pruned(
        new,
        tuple(kept_ids),
        tuple(text_of(base.surface(piece)) for piece in dropped),
        len(unused),
        _unseen_growth(base, _unneeded(base, builds, seen.learned | kept)[:num_pieces], seen.aside),
    )


def built_of(tokenizer: Extendable) -> dict[str, frozenset[str]]:
    """For each entry that merges make, the other entries that form on the way.

    An entry that its own merges do not make is looked up whole, if at all: nothing forms.
    """
    learned = tokenizer.ids.keys() - tokenizer.special
    rank = tokenizer.rank_of()
    return {piece: frozenset(_formed(piece, rank, learned)) - {piece} for piece in tokenizer.ids}


def _formed(piece: str, rank: Rank, learned: Iterable[str]) -> set[str]:
    """Entries that form while the signs of a piece are joined; none if the piece is not the end."""
    symbols = list(piece)
    formed = set(symbols)
    while len(symbols) > 1:
        ranked = [
            (found, at)
            for at in range(len(symbols) - 1)
            if (found := rank(symbols[at], symbols[at + 1])) is not None
        ]
        if not ranked:
            return set()
        _, at = min(ranked)
        symbols[at : at + 2] = [symbols[at] + symbols[at + 1]]
        formed.add(symbols[at])
    return formed.intersection(learned)


def _seen(base: Extendable, texts: Iterable[str], also: Sequence[str]) -> _Seen:
    seen, encoders = _Seen(set(), set(), Counter(), list(also)), _encoders(base)
    waiting = iter(texts)
    for encode in encoders:
        seen.always.update(*encode(list(also)))
    num_checked = 0
    while batch := list(islice(waiting, _BATCH_TEXTS)):
        edges = [f"{text[-_EDGE:]}{gap}{text[:_EDGE]}" for text in batch for gap in _GAPS]
        for encode in encoders:
            seen.always.update(*encode(edges))
        for encode in encoders[1:]:
            seen.always.update(*encode(batch))
        for text, ids in zip(batch, encoders[0](batch), strict=True):
            for start in range(0, len(ids), _STRETCH_TOKENS):
                part = ids[start : start + _STRETCH_TOKENS]
                is_aside = seen.num_tokens // _STRETCH_TOKENS % _ONE_IN == _ONE_IN - 1
                (seen.aside if is_aside else seen.learned).update(part)
                seen.num_tokens += len(part)
            if num_checked < _MOST_CHECKED:
                num_checked += len(text)
                seen.sample.append(text)
    return seen


def _encoders(tokenizer: Extendable) -> list[Callable[[list[str]], list[list[int]]]]:
    """How each file of a tokenizer encodes: they may differ where a control token is spelled."""
    if isinstance(tokenizer, ByteBPE):
        return [tokenizer.encode]
    fast = Tokenizer.from_str(json.dumps(spec_of_sentencepiece(tokenizer)))

    def encode(texts: list[str]) -> list[list[int]]:
        return [one.ids for one in fast.encode_batch_fast(texts, add_special_tokens=False)]

    return [tokenizer.encode, encode]


def _unneeded(base: Extendable, builds: Mapping[str, frozenset[str]], used: set[int]) -> list[str]:
    """Entries in no text and in nothing that is kept, the last learned first."""
    needed = Counter(part for parts in builds.values() for part in parts)
    kept = {
        piece
        for piece in builds
        if base.ids[piece] in used
        or len(base.surface(piece)) == 1
        or not text_of(base.surface(piece)).strip()
    }
    waiting = sorted(builds.keys() - kept - base.special, key=base.ids.__getitem__, reverse=True)
    found: list[str] = []
    while True:
        still = []
        for piece in waiting:
            if needed[piece]:
                still.append(piece)
            else:  # what it was built of has the smaller id as a rule, and comes after it
                needed.subtract(builds[piece])
                found.append(piece)
        if len(still) == len(waiting):
            return found
        waiting = still


def _unseen_growth(base: Extendable, dropped: Sequence[str], unseen: Counter[int]) -> float | None:
    """Each use of what is gone costs the tokens that it is spelled with, less one."""
    if not unseen:
        return None
    smaller, _ = base.without(dropped)
    lost = [piece for piece in dropped if unseen[base.ids[piece]]]
    spelled = smaller.spell([base.surface(piece) for piece in lost])
    more = sum(
        unseen[base.ids[piece]] * (len(ids) - 1) for piece, ids in zip(lost, spelled, strict=True)
    )
    return more / unseen.total()


def _check(
    base: Extendable, new: Extendable, dropped: Sequence[str], protected: Sequence[str]
) -> None:
    gone = set(dropped)
    kept = [piece for piece in base.ids if piece not in base.special and piece not in gone]
    alive = set(kept).difference(dead_pieces(base, kept))
    texts = [*protected, *PROBE]
    refuse_faults(
        base,
        {
            "entries that no text can produce any more": dead_pieces(new, sorted(alive)),
            "protected text cut otherwise": _recut(base, new, protected),
            "decodes other than the base": misread_texts(base, new, texts),
            "tokenizer.json gives other ids than tokenizer.model": disagreements(new, texts),
        },
        doing="made smaller",
    )


def _recut(base: Extendable, new: Extendable, texts: Sequence[str]) -> list[str]:
    """Texts that some file of the new tokenizer cuts otherwise than the same file of the base."""
    old_names, new_names = ({i: piece for piece, i in one.ids.items()} for one in (base, new))
    return [
        text
        for before, after in zip(_encoders(base), _encoders(new), strict=True)
        for text, old, now in zip(texts, before(list(texts)), after(list(texts)), strict=True)
        if [old_names[i] for i in old] != [new_names[i] for i in now]
    ]
