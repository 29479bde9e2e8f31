"""Learn new merges on top of a base tokenizer's own pieces, and choose the best of them.

Continued BPE: the base first cuts the text as it always does, and training goes on from those
tokens. Compare Purason et al., "Teaching Old Tokenizers New Words" (arXiv 2512.03989); new here
are the limit to one script, whole characters, and the choice by number of uses.
"""

from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from hanpaca.tokenizer.byte_bpe import BYTE_TO_CHARACTER, bytes_of_piece
from hanpaca.tokenizer.pair_training import train_pairs

_MIN_USES = 2  # a piece used once in the corpus teaches its row nothing
_MAX_ATOMS = 15  # longest piece, in base tokens or whole characters: keeps boilerplate out
# Merges into entries that the base has but cannot reach cost no row (678 in Llama 3), so train a
# few more than asked for.
_SPARE_MERGES = 1024
_FIRST_CODE = 0x10000  # room for a million atoms
_CONTINUATION = frozenset(BYTE_TO_CHARACTER[byte] for byte in range(0x80, 0xC0))

Word = tuple[str, ...]


class Merge(NamedTuple):
    """Two neighbours that become one piece; `uses` is how often that happens in the corpus."""

    left: str
    right: str
    uses: int

    @property
    def piece(self) -> str:
        """The vocabulary entry it makes."""
        return self.left + self.right


def learn_merges(
    pretokens: Mapping[str, int],
    *,
    split: Callable[[str], list[str]],
    owns_prefix: Callable[[bytes], bool],
    num_merges: int,
) -> list[Merge]:
    """Learn merges over target-script text, in the order in which they must be applied.

    First come the merges that complete one character out of base tokens, then those that join
    characters to words. Every piece made is whole characters, or a prefix of one that
    `owns_prefix` allows; so in text of other scripts none of the merges can ever apply.

    Args:
        pretokens: target-script text as the base's pre-tokenizer cuts it, written as pieces, and
            how often each occurs.
        split: cuts such a text into base pieces.
        owns_prefix: whether the first bytes of a character belong to the target script alone.
        num_merges: how many word merges may be useful at most.
    """
    words: Counter[Word] = Counter()
    paths: dict[str, list[str]] = {}
    allowed: dict[str, bool] = {}

    def may_complete(path: list[str]) -> bool:
        prefixes = ["".join(path[:end]) for end in range(2, len(path))]
        for prefix in prefixes:
            if prefix not in allowed:
                allowed[prefix] = owns_prefix(bytes_of_piece(prefix))
        return all(allowed[prefix] for prefix in prefixes)

    for pretoken, count in pretokens.items():
        for word in _words(pretoken, split(pretoken), may_complete, paths):
            words[word] += count
    return _completions(words, paths) + _joins(words, num_merges + _SPARE_MERGES)


def choose_merges(
    merges: Sequence[Merge], *, known: Container[str], num_pieces: int
) -> tuple[list[Merge], list[str]]:
    """Choose the merges that save the most tokens with at most `num_pieces` new entries.

    Each use of a merge saves one token. A merge is never used more often than the merges that
    make its parts, so taking them by uses takes every part before the whole. Dropping the others
    changes no chosen piece's derivation, so no chosen piece is dead.

    Returns:
        The chosen merges in their old order, and the new entries in the order they first appear.
    """
    new: set[str] = set()
    chosen: list[int] = []
    for i in sorted(range(len(merges)), key=lambda i: (-merges[i].uses, i)):
        merge = merges[i]
        is_new = merge.piece not in known and merge.piece not in new
        if merge.uses < _MIN_USES or (is_new and len(new) == num_pieces):
            break
        if all(part in known or part in new for part in merge[:2]):
            chosen.append(i)
            if is_new:
                new.add(merge.piece)
    kept = [merges[i] for i in sorted(chosen)]
    return kept, [piece for piece in dict.fromkeys(m.piece for m in kept) if piece in new]


def final_uses(merges: Sequence[Merge]) -> Counter[str]:
    """Count how often each piece is left standing, when all the merges have been applied.

    A merge's use makes one piece, and uses up one of each part.
    """
    left: Counter[str] = Counter()
    for merge in merges:
        left[merge.piece] += merge.uses
        left[merge.left] -= merge.uses
        left[merge.right] -= merge.uses
    return left


def _words(
    pretoken: str,
    tokens: list[str],
    may_complete: Callable[[list[str]], bool],
    paths: dict[str, list[str]],
) -> Iterator[Word]:
    """Turn base tokens into words of atoms: tokens of whole characters, or completed characters.

    Where a base token ends inside one character and began inside another, or a character may not
    be completed, nothing can be merged without touching other text, so the word ends there.
    """
    if "".join(tokens) != pretoken:
        return  # the base lacks some byte and lost it
    word: list[str] = []
    for group in _character_groups(tokens):
        atom = "".join(group)
        if len(group) > 1 and atom not in paths:
            if sum(c not in _CONTINUATION for c in atom) > 1 or not may_complete(group):
                if word:
                    yield tuple(word)
                word = []
                continue
            paths[atom] = group
        word.append(atom)
    if word:
        yield tuple(word)


def _character_groups(tokens: Iterable[str]) -> Iterator[list[str]]:
    group: list[str] = []
    for token in tokens:
        if group and token[0] not in _CONTINUATION:
            yield group
            group = []
        group.append(token)
    if group:
        yield group


def _completions(words: Mapping[Word, int], paths: Mapping[str, list[str]]) -> list[Merge]:
    atom_uses: Counter[str] = Counter()
    for word, count in words.items():
        for atom in word:
            if atom in paths:
                atom_uses[atom] += count
    pair_uses: Counter[tuple[str, str]] = Counter()
    for atom, count in atom_uses.items():
        left, *rest = paths[atom]
        for right in rest:
            pair_uses[left, right] += count
            left += right
    found = [Merge(left, right, uses) for (left, right), uses in pair_uses.items()]
    return sorted(found, key=lambda m: (-m.uses, len(m.piece), m.piece))


def _joins(words: Mapping[Word, int], limit: int) -> list[Merge]:
    """Train BPE with each atom as one letter, and count how often each merge applies."""
    long = {word: count for word, count in words.items() if len(word) > 1}
    # Sorted, so that ties fall the same way whatever the order of the texts.
    atoms = sorted({atom for word in long for atom in word})
    code = {atom: chr(_FIRST_CODE + i) for i, atom in enumerate(atoms)}
    coded = [("".join(map(code.__getitem__, word)), count) for word, count in long.items()]
    joined = train_pairs(
        coded,
        list(code.values()),
        num_made=limit,
        min_uses=_MIN_USES,
        max_letters=_MAX_ATOMS,
    )
    table = {ord(letter): atom for atom, letter in code.items()}
    return [
        Merge(left.translate(table), right.translate(table), uses) for left, right, uses in joined
    ]
