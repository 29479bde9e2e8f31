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

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from hanpaca.errors import DataError
from hanpaca.tokenizer.conversion.probe import PROBE
from hanpaca.tokenizer.extension.guarantees import cut, dead_pieces, misread_texts
from hanpaca.tokenizer.extension.proof import disagreements, refuse_faults
from hanpaca.tokenizer.open import Extendable
from hanpaca.tokenizer.vocabulary import text_of

_BATCH_TEXTS = 1_000
_SLICE_TOKENS, _ONE_IN = 500, 10
_MOST_CHECKED = 2_000_000
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
    unseen_growth: float
    """Share of tokens that text like the protected one takes more, where it was not protected:
    measured on one stretch in ten of it with what the others alone protect, so it is rather less
    with all of them."""


@dataclass
class _Seen:
    """What protected texts are made of."""

    learned: set[int]
    """Ids in nine stretches of ten."""
    aside: Counter[int]
    """Ids in the tenth, and how often."""
    sample: list[str]
    """Some of the texts, whole."""


def prune_tokenizer(
    base: Extendable, texts: Iterable[str], *, num_pieces: int | None = None
) -> Pruned:
    """Take out entries that no text needs; special tokens and bytes always stay.

    Args:
        base: What is made smaller.
        texts: All that must keep its tokens, of every language that counts; best some megabytes.
        num_pieces: Entries to take out, the last learned first; None for all that can be.

    Raises:
        DataError: There is no text, or so many entries cannot be taken out.
        ArtifactError: The result fails its own check.
    """
    seen = _seen(base, texts)
    if not seen.learned:
        raise DataError("there is no text to protect")
    builds = built_of(base)
    unused = _unneeded(base, builds, seen.learned | seen.aside.keys())
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
        _unseen_growth(base, _unneeded(base, builds, seen.learned)[:num_pieces], seen.aside),
    )


def built_of(tokenizer: Extendable) -> dict[str, frozenset[str]]:
    """For each entry that merges make, the other entries that form on the way.

    An entry that its own merges do not make is looked up whole, if at all: nothing forms.
    """
    learned = tokenizer.ids.keys() - tokenizer.special
    rank = tokenizer.rank_of()
    return {piece: frozenset(_formed(piece, rank, learned)) - {piece} for piece in learned}


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


def _seen(base: Extendable, texts: Iterable[str]) -> _Seen:
    seen = _Seen(set(), Counter(), [])
    waiting = iter(texts)
    num_slices = num_checked = 0
    while batch := list(islice(waiting, _BATCH_TEXTS)):
        for text, ids in zip(batch, base.encode(batch), strict=True):
            for start in range(0, len(ids), _SLICE_TOKENS):
                num_slices += 1
                stretch = ids[start : start + _SLICE_TOKENS]
                (seen.learned if num_slices % _ONE_IN else seen.aside).update(stretch)
            if num_checked < _MOST_CHECKED:
                num_checked += len(text)
                seen.sample.append(text)
    return seen


def _unneeded(base: Extendable, builds: Mapping[str, frozenset[str]], used: set[int]) -> list[str]:
    """Entries in no text and in nothing that is kept, the last learned first."""
    needed = Counter(part for parts in builds.values() for part in parts)
    kept = {piece for piece in builds if base.ids[piece] in used or len(base.surface(piece)) == 1}
    waiting = sorted(builds.keys() - kept, key=base.ids.__getitem__, reverse=True)
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


def _unseen_growth(base: Extendable, dropped: Sequence[str], unseen: Counter[int]) -> float:
    """Each use of what is gone costs the tokens that it is spelled with, less one."""
    smaller, _ = base.without(dropped)
    lost = [piece for piece in dropped if unseen[base.ids[piece]]]
    spelled = smaller.spell([base.surface(piece) for piece in lost])
    more = sum(
        unseen[base.ids[piece]] * (len(ids) - 1) for piece, ids in zip(lost, spelled, strict=True)
    )
    return more / max(unseen.total(), 1)


def _check(
    base: Extendable, new: Extendable, dropped: Sequence[str], protected: Sequence[str]
) -> None:
    gone = set(dropped)
    kept = [piece for piece in base.ids if piece not in base.special and piece not in gone]
    alive = set(kept).difference(dead_pieces(base, kept))
    texts = [*protected, *PROBE]
    pairs = zip(protected, cut(base, protected), cut(new, protected), strict=True)
    refuse_faults(
        base,
        {
            "entries that no text can produce any more": dead_pieces(new, sorted(alive)),
            "protected text cut otherwise": [text for text, old, now in pairs if old != now],
            "decodes other than the base": misread_texts(base, new, texts),
            "tokenizer.json gives other ids than tokenizer.model": disagreements(new, texts),
        },
        doing="made smaller",
    )
