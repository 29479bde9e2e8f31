"""Cut words where two letters meet too rarely for any useful piece to reach over them.

A piece occurs at most as often as any two neighbouring letters in it. So if only merges with at
least `floor` uses are wanted, words can be cut between letters that meet fewer times than that, and
BPE finds the same merges down to that number, in the same order. The stretches are short and many
are equal: training takes a fraction of the time and memory.
"""

from collections import Counter
from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

_MOST_BITS = 23  # 8 million buckets, 64 MB
_BATCH_LETTERS = 2_000_000

Array = NDArray[np.integer]


class PairCounts:
    """How often each two letters meet, at least: pairs that share a bucket are counted together.

    Too high a count only leaves a cut out, so no merge is lost.
    """

    def __init__(self, words: Mapping[str, int]) -> None:
        self.bits = min(_MOST_BITS, sum(map(len, words)).bit_length() + 2)
        self.counts = np.zeros(2**self.bits)
        for letters, counts, _ in _batches(words):
            inside = counts[:-1] > 0
            buckets = self._buckets(letters)[inside]
            self.counts += np.bincount(buckets, counts[:-1][inside], minlength=2**self.bits)

    def floor(self, num_merges: int) -> int:
        """Guess a number of uses that at least `num_merges` merges will have."""
        if num_merges >= len(self.counts):
            return 0
        return int(np.partition(self.counts, -num_merges)[-num_merges]) // 3

    def cut(self, words: Mapping[str, int], floor: int) -> Counter[str]:
        """Cut words between letters that meet fewer than `floor` times; single letters go."""
        found: Counter[str] = Counter()
        for letters, counts, text in _batches(words):
            together = (counts[:-1] > 0) & (self.counts[self._buckets(letters)] >= floor)
            edges = np.flatnonzero(np.diff(together, prepend=False, append=False))
            for start, end in edges.reshape(-1, 2).tolist():
                found[text[start : end + 1]] += int(counts[start])
        return found

    def _buckets(self, letters: Array) -> Array:
        pairs = letters[:-1].astype(np.uint64) * np.uint64(0x9E3779B1) + letters[1:]
        mixed = pairs * np.uint64(0x9E3779B97F4A7C15)  # Fibonacci hashing, Knuth 6.4
        return (mixed >> np.uint64(64 - self.bits)).astype(np.int64)


def _batches(words: Mapping[str, int]) -> Iterator[tuple[Array, Array, str]]:
    """Write words one behind the other.

    Yields:
        The code of each letter; the count of its word, or 0 for the last letter of a word, which
        does not meet the next one; and the letters as a text.
    """
    batch: list[str] = []
    size = 0
    for word in words:
        batch.append(word)
        size += len(word)
        if size > _BATCH_LETTERS:
            yield _batch(words, batch)
            batch, size = [], 0
    if batch:
        yield _batch(words, batch)


def _batch(words: Mapping[str, int], batch: list[str]) -> tuple[Array, Array, str]:
    text = "".join(batch)
    letters = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)
    lengths = np.fromiter(map(len, batch), dtype=np.int64, count=len(batch))
    counts = np.repeat(np.fromiter(map(words.__getitem__, batch), dtype=np.int64), lengths)
    counts[np.cumsum(lengths) - 1] = 0
    return letters, counts, text
