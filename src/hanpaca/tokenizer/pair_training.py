"""Byte-pair-encoding training in flat arrays.

The algorithm is the usual one (Sennrich et al., arXiv 1508.07909): again and again, join the
neighbours that occur most often, the lowest-numbered of those that tie. All words lie in one
array, in which links lead over what has been joined; places are kept for each symbol and for the
pairs of letters, not for every pair. The `tokenizers` library's trainer gives the same merges, but
takes no counts of words, keeps no counts of merges, and needs several times the memory.
"""

import heapq
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Places = NDArray[np.int32]
Keys = NDArray[np.int64]
_END, _GONE = -1, -2  # between words; joined to the symbol before
_SHIFT = 32  # a pair's key: its left symbol shifted by so much, and its right one
_RIGHT = (1 << _SHIFT) - 1
_ENTRY_SHIFT = 2 * _SHIFT  # a queue entry: the count, negative, above the key


class Joined(NamedTuple):
    """Two neighbours that become one, and how often they do."""

    left: str
    right: str
    uses: int


def train_pairs(
    words: Sequence[tuple[str, int]],
    letters: Sequence[str],
    *,
    num_made: int,
    min_uses: int,
    max_letters: int,
) -> list[Joined]:
    """Learn which neighbours to join, in order.

    Args:
        words: each with how often it occurs.
        letters: all that occur, in the order in which ties fall.
        num_made: most new pieces to make.
        min_uses: of a pair that is joined.
        max_letters: of a piece.
    """
    text = _Text(words, letters)
    pairs = _Pairs(text, len(letters), min_uses)
    names = list(letters)
    numbers = {name: number for number, name in enumerate(names)}
    uses: dict[int, int] = {}
    while len(names) < len(letters) + num_made and (key := pairs.most_frequent()) is not None:
        left, right = key >> _SHIFT, key & _RIGHT
        name = names[left] + names[right]
        if len(name) > max_letters:
            pairs.drop(key)
            continue
        made = numbers.setdefault(name, len(names))
        if made == len(names):
            names.append(name)
        uses[key] = uses.get(key, 0) + _join(text, pairs, key, made)
    return [Joined(names[key >> _SHIFT], names[key & _RIGHT], n) for key, n in uses.items()]


class _Text:
    """All words one after another, each place linked to its neighbours.

    Attributes:
        symbols: at each place; `_END` before the first word and after each.
        after: the place of the next symbol.
        before: the place of the one before.
        counts: how often the word of each place occurs.
    """

    def __init__(self, words: Sequence[tuple[str, int]], letters: Sequence[str]) -> None:
        ends = np.cumsum([0, *(len(word) + 1 for word, _ in words)])
        codes = np.frombuffer("".join(word for word, _ in words).encode("utf-32-le"), np.uint32)
        order = np.array([ord(letter) for letter in letters], np.uint32)
        by_code = np.argsort(order)
        self.symbols = np.full(ends[-1] + 1, _END, np.int32)
        inside = np.ones(len(self.symbols), bool)
        inside[ends] = False
        self.symbols[inside] = by_code[np.searchsorted(order, codes, sorter=by_code)]
        places = np.arange(len(self.symbols), dtype=np.int32)
        self.after, self.before = places + np.int32(1), places - np.int32(1)
        self.counts = np.zeros(len(self.symbols), np.int32)
        counts = np.array([count for _, count in words], np.int32)
        self.counts[1:] = np.repeat(counts, np.diff(ends))

    def keys(self, left: Places, right: Places) -> Keys:
        """Name the pairs at these places; negative where a word ends."""
        first, second = self.symbols[left], self.symbols[right]
        keys = (first.astype(np.int64) << _SHIFT) | second
        keys[(first < 0) | (second < 0)] = -1
        return keys


class _Pairs:
    """How often each pair occurs, and where its symbols are.

    Attributes:
        keys: of all pairs of letters, sorted.
        counts: of the same.
        starts: where the places of each begin in `places`.
        places: of the left letter of each pair of letters, as counted at first.
        ranked: indices of pairs of letters, from the most frequent on.
        num_tried: how many of them are in the queue, or done.
        made_counts: of pairs with a symbol that was made.
        made_places: where each made symbol is, or was.
        queue: heap of entries; out of date where the count is another by now.
    """

    def __init__(self, text: _Text, num_letters: int, min_uses: int) -> None:
        self.num_letters, self.min_uses = num_letters, min_uses
        left = np.arange(len(text.symbols) - 1, dtype=np.int32)
        keys = text.keys(left, left + np.int32(1))
        left, keys = left[keys >= 0], keys[keys >= 0]
        order = np.argsort(keys, kind="stable")
        self.places, keys = left[order], keys[order]
        self.starts = np.flatnonzero(np.diff(keys, prepend=-1, append=-1))
        self.keys = keys[self.starts[:-1]]
        sums = np.cumsum(np.append(0, text.counts[self.places].astype(np.int64)))
        self.counts = np.diff(sums[self.starts])
        self.first_counts = self.counts.copy()
        self.ranked = np.argsort(-self.counts, kind="stable")
        self.num_tried = 0
        self.made_counts: dict[int, int] = {}
        self.made_places: dict[int, Places] = {}
        self.queue: list[int] = []

    def most_frequent(self) -> int | None:
        """Find the key of the pair to join next; None where all that are left are too rare."""
        while True:
            while self.num_tried < len(self.ranked):
                i = int(self.ranked[self.num_tried])
                entry = _entry(int(self.first_counts[i]), int(self.keys[i]))
                if self.queue and self.queue[0] < entry:
                    break
                self.num_tried += 1
                self._put(int(self.counts[i]), int(self.keys[i]))
            if not self.queue:
                return None
            entry = heapq.heappop(self.queue)
            key, count = entry & ((1 << _ENTRY_SHIFT) - 1), -(entry >> _ENTRY_SHIFT)
            now = self._count(key)
            if now == count:
                return key
            self._put(now, key)

    def where(self, text: _Text, left: int, right: int) -> Places:
        """Find the places of a pair, in order."""
        if max(left, right) < self.num_letters:
            i = self._index(left << _SHIFT | right)
            at = self.places[self.starts[i] : self.starts[i + 1]]
        else:
            known = [symbol for symbol in (left, right) if symbol >= self.num_letters]
            rarer = min(known, key=lambda symbol: len(self.made_places[symbol]))
            at = self.made_places[rarer]
            at = at[text.symbols[at] == rarer]
            self.made_places[rarer] = at
            if rarer != left:
                at = text.before[at]
        here = (text.symbols[at] == left) & (text.symbols[text.after[at]] == right)
        found: Places = at[here]
        return found

    def take(self, keys: Keys, counts: Places) -> None:
        """Count pairs down that are no more."""
        gone, sums = _summed(keys, counts)
        letters = np.maximum(gone >> _SHIFT, gone & _RIGHT) < self.num_letters
        self.counts[np.searchsorted(self.keys, gone[letters])] -= sums[letters]
        made = self.made_counts
        for key, count in zip(gone[~letters].tolist(), sums[~letters].tolist(), strict=True):
            if key in made:
                made[key] -= count

    def give(self, keys: Keys, counts: Places) -> None:
        """Count pairs that have come about."""
        new, sums = _summed(keys, counts)
        made = self.made_counts
        for key, count in zip(new.tolist(), sums.tolist(), strict=True):
            if key in made or count >= self.min_uses:
                made[key] = made.get(key, 0) + count
                self._put(made[key], key)

    def drop(self, key: int) -> None:
        """Take a pair out for good, or until it comes about again."""
        if self.made_counts.pop(key, None) is None:
            self.counts[self._index(key)] = 0

    def _count(self, key: int) -> int:
        if max(key >> _SHIFT, key & _RIGHT) < self.num_letters:
            return int(self.counts[self._index(key)])
        return self.made_counts.get(key, 0)

    def _index(self, key: int) -> int:
        return int(np.searchsorted(self.keys, key))

    def _put(self, count: int, key: int) -> None:
        if count >= self.min_uses:
            heapq.heappush(self.queue, _entry(count, key))
        else:
            self.made_counts.pop(key, None)


def _entry(count: int, key: int) -> int:
    return (-count << _ENTRY_SHIFT) | key


def _join(text: _Text, pairs: _Pairs, key: int, made: int) -> int:
    """Join a pair wherever it is; return how often that was, words counted as they occur."""
    left, right = key >> _SHIFT, key & _RIGHT
    at = pairs.where(text, left, right)
    if left == right:
        at = _every_other(at, text.after)
    second = text.after[at]
    third = text.after[second]
    # Where one joined pair follows another, the pair between them is counted once.
    last = np.append(third[:-1] != at[1:], True)[: len(at)]
    counts = text.counts[at]
    around = np.concatenate((counts, counts[last]))
    pairs.take(
        np.concatenate((text.keys(text.before[at], at), text.keys(second, third)[last])), around
    )
    pairs.drop(key)
    text.symbols[at], text.symbols[second] = made, _GONE
    text.after[at], text.before[third] = third, at
    pairs.made_places[made] = np.sort(np.append(pairs.made_places.get(made, at[:0]), at))
    pairs.give(np.concatenate((text.keys(text.before[at], at), text.keys(at, third)[last])), around)
    return int(counts.sum(dtype=np.int64))


def _every_other(at: Places, after: Places) -> Places:
    """Of places that overlap (aaa), keep the first, third, … of each row."""
    follows = np.append(False, after[at[:-1]] == at[1:])[: len(at)]
    number = np.arange(len(at))
    start = np.maximum.accumulate(np.where(follows, 0, number))
    kept: Places = at[(number - start) % 2 == 0]
    return kept


def _summed(keys: Keys, counts: Places) -> tuple[Keys, Keys]:
    """Add up the counts of equal keys; negative keys are left out."""
    known = keys >= 0
    unique, inverse = np.unique(keys[known], return_inverse=True)
    sums = np.bincount(inverse, weights=counts[known], minlength=len(unique))
    return unique, sums.astype(np.int64)
