"""Learn new merges on top of a base tokenizer's own pieces, and choose the best of them.

Continued BPE: the base first cuts the text as it always does, and training goes on from those
tokens. Compare Purason et al., "Teaching Old Tokenizers New Words" (arXiv 2512.03989); new here
are the limit to one script, whole characters, and the choice by tokens saved.

Tokens and pieces are surfaces here, the UTF-8 bytes they stand for, so that all of this holds for
both families. They differ in one thing. Byte-level BPE completes a character pair by pair, and
each pair is a piece (a *half character*) of its own; SentencePiece falls back to bytes for a
character it does not have, and one new piece replaces all of them.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from hanpaca.tokenizer.extension.rare_pairs import PairCounts
from hanpaca.tokenizer.extension.train_merges import (
    MIN_USES,
    Pair,
    count_uses,
    train_pairs,
    train_pairs_avoiding,
)

# Merges into entries that the base has but cannot reach cost no row (678 in Llama 3), so train a
# few more than asked for.
_SPARE_MERGES = 1024
_FIRST_CODE = 0x10000  # no white space from here up, and room for a million atoms
_CONTINUATION = range(0x80, 0xC0)


class Merge(NamedTuple):
    """Neighbours that become one piece; `uses` is how often that happens in the corpus."""

    parts: tuple[bytes, ...]
    uses: int

    @property
    def piece(self) -> bytes:
        """The surface it makes."""
        return b"".join(self.parts)

    @property
    def saved(self) -> int:
        """Tokens that it saves in the corpus."""
        return self.uses * (len(self.parts) - 1)


def learn_merges(
    words: Iterable[tuple[Sequence[bytes], int]],
    *,
    owns_prefix: Callable[[bytes], bool] | None,
    num_merges: int,
    avoid: Container[bytes] = (),
) -> list[Merge]:
    """Learn merges over target-script text, in the order in which they must be applied.

    First come the merges that complete one character out of base tokens, then those that join
    characters to words. Every piece made is whole characters, or a prefix of one that
    `owns_prefix` allows; so in text of other scripts none of the merges can ever apply.

    Args:
        words: The base's tokens of a stretch of target text, and how often it occurs. A count of 0
            gives the way to its characters and nothing more.
        owns_prefix: Whether the first bytes of a character belong to the target script alone; None
            where a character is completed at once.
        num_merges: How many word merges may be useful at most.
        avoid: Pieces that no word merge may make.
    """
    atoms = _Atoms(owns_prefix)
    coded: Counter[str] = Counter()
    for tokens, count in words:
        for word in atoms.words(tokens):
            coded[word] += count
    return _completions(coded, atoms) + _joins(coded, atoms, num_merges + _SPARE_MERGES, avoid)


class Chosen(NamedTuple):
    """Merges in the order of learning, and the new pieces in the order they first appear."""

    merges: list[Merge]
    pieces: list[bytes]


def choose_merges(
    merges: Sequence[Merge],
    *,
    known: Container[bytes],
    num_pieces: int,
    required: Iterable[bytes] = (),
    refused: Callable[[bytes], bool] = lambda piece: False,
) -> Chosen:
    """Choose the merges that save the most tokens with at most `num_pieces` new entries.

    A merge never saves more than the merges that make its parts, so taking them in this order takes
    every part before the whole. Dropping the others changes no chosen piece's derivation.

    Args:
        merges: As learned.
        known: The base's pieces.
        num_pieces: New pieces at most; required ones are taken even if they are more.
        required: Pieces that are made whatever they save, with all that they are made of.
        refused: Pieces that must not be made, nor anything out of them.
    """
    choice = _Choice(merges, known)
    for piece in required:
        choice.demand(piece)
    for i in sorted(range(len(merges)), key=lambda i: (-merges[i].saved, i)):
        merge = merges[i]
        if merge.uses < MIN_USES or i in choice.taken or refused(merge.piece):
            continue
        if not choice.has(merge.piece) and len(choice.new) >= num_pieces:
            break
        if all(map(choice.has, merge.parts)):
            choice.take(i)
    kept = [merges[i] for i in sorted(choice.taken)]
    pieces = dict.fromkeys(merge.piece for merge in kept)
    return Chosen(kept, [piece for piece in pieces if piece in choice.new])


def final_uses(merges: Iterable[Merge]) -> Counter[bytes]:
    """Count how often each piece is left standing, when all the merges have been applied.

    A merge's use makes one piece, and uses up one of each part.
    """
    left: Counter[bytes] = Counter()
    for merge in merges:
        left[merge.piece] += merge.uses
        for part in merge.parts:
            left[part] -= merge.uses
    return left


class _Choice:
    """Merges taken so far, by number, and the new pieces that they make."""

    def __init__(self, merges: Sequence[Merge], known: Container[bytes]) -> None:
        self.merges = merges
        self.known = known
        self.makers = {merge.piece: i for i, merge in reversed(list(enumerate(merges)))}
        self.taken: set[int] = set()
        self.new: set[bytes] = set()

    def has(self, piece: bytes) -> bool:
        return piece in self.known or piece in self.new

    def take(self, i: int) -> None:
        self.taken.add(i)
        if self.merges[i].piece not in self.known:
            self.new.add(self.merges[i].piece)

    def demand(self, piece: bytes) -> None:
        """Take what makes a piece, after what makes its parts."""
        if piece in self.makers and self.makers[piece] not in self.taken:
            for part in self.merges[self.makers[piece]].parts:
                if part not in self.known:
                    self.demand(part)
            self.take(self.makers[piece])


class _Atoms:
    """The letters that words are made of: tokens of whole characters, or completed characters.

    Each is given a code, one character, so that a word is a short string.
    """

    def __init__(self, owns_prefix: Callable[[bytes], bool] | None) -> None:
        self.codes: dict[bytes, str] = {}
        """The code of each atom."""
        self.paths: dict[bytes, tuple[bytes, ...]] = {}
        """The base tokens of each character that must be completed."""
        self.owns_prefix = owns_prefix
        self.owned: dict[bytes, bool] = {}

    def words(self, tokens: Sequence[bytes]) -> Iterator[str]:
        """Turn base tokens into coded words.

        Where a base token ends inside one character and began inside another, or a character may
        not be completed, nothing can be merged without touching other text, so the word ends there.
        It does at a bare space too: in a run of spaces the base must be free to join them.
        """
        starts = [i for i, token in enumerate(tokens) if token[0] not in _CONTINUATION]
        word = ""
        for start, end in pairwise([*starts, len(tokens)]):
            atom = tokens[start] if end == start + 1 else b"".join(tokens[start:end])
            code = self.codes.get(atom) or self._code(atom, tokens[start:end])
            if code:
                word += code
            elif word:
                yield word
                word = ""
        if word:
            yield word

    def _code(self, atom: bytes, path: Sequence[bytes]) -> str:
        if atom.isspace() or (len(path) > 1 and not self._may_complete(atom, path)):
            return ""
        if len(path) > 1:
            self.paths[atom] = tuple(path)
        self.codes[atom] = chr(_FIRST_CODE + len(self.codes))
        return self.codes[atom]

    def _may_complete(self, atom: bytes, path: Sequence[bytes]) -> bool:
        if sum(byte not in _CONTINUATION for byte in atom) > 1:
            return False
        return self.owns_prefix is None or all(
            self._owns(b"".join(path[:end])) for end in range(2, len(path))
        )

    def _owns(self, prefix: bytes) -> bool:
        if prefix not in self.owned and self.owns_prefix is not None:
            self.owned[prefix] = self.owns_prefix(prefix)
        return self.owned[prefix]


def _completions(words: Mapping[str, int], atoms: _Atoms) -> list[Merge]:
    uses: Counter[str] = Counter()
    by_count: defaultdict[int, list[str]] = defaultdict(list)
    for word, count in words.items():
        by_count[count].append(word)
    for count, some in by_count.items():
        for code, times in Counter("".join(some)).items():
            uses[code] += times * count
    merges: Counter[tuple[bytes, ...]] = Counter()
    for atom, path in atoms.paths.items():
        count = uses[atoms.codes[atom]]
        if atoms.owns_prefix is None:
            merges[path] += count
            continue
        left, *rest = path
        for right in rest:
            merges[left, right] += count
            left += right
    found = [Merge(parts, count) for parts, count in merges.items()]
    return sorted(found, key=lambda m: (-m.uses, len(m.piece), m.piece))


def _joins(words: Counter[str], atoms: _Atoms, limit: int, avoid: Container[bytes]) -> list[Merge]:
    """Train BPE with each atom as one letter, and count how often each merge applies."""
    # Sorted, so that ties fall the same way whatever the order of the texts.
    order = sorted(atoms.codes)
    recode = {ord(atoms.codes[atom]): chr(_FIRST_CODE + i) for i, atom in enumerate(order)}
    long: dict[str, int] = {}
    while words:  # taken out one by one: there may be millions
        word, count = words.popitem()
        if len(word) > 1 and count > 0:
            long[word.translate(recode)] = count

    def avoided(piece: str) -> bool:
        return surface(piece) in avoid

    def surface(piece: str) -> bytes:
        return b"".join(order[ord(letter) - _FIRST_CODE] for letter in piece)

    pairs, uses = _train(long, limit, avoided if avoid else None)
    return [
        Merge((surface(left), surface(right)), count)
        for (left, right), count in zip(pairs, uses, strict=True)
    ]


def _train(
    words: Mapping[str, int], limit: int, avoid: Callable[[str], bool] | None
) -> tuple[list[Pair], list[int]]:
    """Train on words cut at rare pairs; again with fewer cuts, if they turn out to matter."""
    pair_counts = PairCounts(words)
    floor = pair_counts.floor(limit)
    while True:
        cut = pair_counts.cut(words, floor) if floor > MIN_USES else words
        pairs = train_pairs_avoiding(cut, limit, avoid) if avoid else train_pairs(cut, limit)
        uses = count_uses(cut, pairs)
        if floor <= MIN_USES or (len(pairs) == limit and min(uses) >= floor):
            return pairs, uses
        floor //= 4
