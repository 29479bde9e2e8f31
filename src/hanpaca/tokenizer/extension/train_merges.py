"""Train BPE on words of letters: which pairs to join, in which order, and how often each joins."""

import heapq
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise

from tokenizers import Tokenizer, models, pre_tokenizers, trainers

MIN_USES = 2
"""A piece used once in the corpus teaches its row nothing."""
_TOO_LONG = 16  # letters; keeps boilerplate out. The library reads its own limit so.
_CHUNK_CHARACTERS = 40_000
_BATCH_WORDS = 10_000

Pair = tuple[str, str]


def train_pairs(words: Mapping[str, int], num_pieces: int) -> list[Pair]:
    """Train with the `tokenizers` library.

    Args:
        words: Words of letters that are no white space, and how often each occurs.
        num_pieces: How many pairs at most.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.BpeTrainer(
        vocab_size=len({letter for word in words for letter in word}) + num_pieces,
        min_frequency=MIN_USES,
        max_token_length=_TOO_LONG,
        show_progress=False,
    )
    tokenizer.train_from_iterator(_chunks(words), trainer)
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    return [(left, right) for left, right in merges]


def train_pairs_avoiding(
    words: Mapping[str, int], num_pieces: int, avoid: Callable[[str], bool]
) -> list[Pair]:
    """Train like `train_pairs`, but never make certain pieces, nor anything out of them.

    The library cannot leave a pair out and go on, so this is the same algorithm in Python: fine for
    the few hundred thousand different words of an alphabetic language.

    Args:
        words: As for `train_pairs`.
        num_pieces: How many pairs at most.
        avoid: Tells whether a piece must not be made.
    """
    state = _Splits(words)
    heap = [state.entry(pair) for pair in state.uses]
    heapq.heapify(heap)
    merges: list[Pair] = []
    while heap and len(merges) < num_pieces:
        negated, _, pair = heapq.heappop(heap)
        if -negated != state.uses[pair]:  # it has changed since it was put here
            if state.uses[pair] > 0:
                heapq.heappush(heap, state.entry(pair))
        elif -negated < MIN_USES:
            break
        elif len(pair[0] + pair[1]) < _TOO_LONG and not avoid(pair[0] + pair[1]):
            merges.append(pair)
            for other in state.apply(pair):
                heapq.heappush(heap, state.entry(other))
    return merges


class _Splits:
    """Words as they are split so far, with the uses of each pair and the words that have it."""

    def __init__(self, words: Mapping[str, int]) -> None:
        self.splits = [(list(word), count) for word, count in sorted(words.items())]
        letters = sorted({letter for word in words for letter in word})
        self.rank = {letter: i for i, letter in enumerate(letters)}
        self.uses: Counter[Pair] = Counter()
        self.places: defaultdict[Pair, set[int]] = defaultdict(set)
        for number, (parts, count) in enumerate(self.splits):
            for pair in pairwise(parts):
                self.uses[pair] += count
                self.places[pair].add(number)

    def entry(self, pair: Pair) -> tuple[int, tuple[int, int], Pair]:
        """Make a heap entry: most used first, then as the library breaks ties."""
        return -self.uses[pair], (self.rank[pair[0]], self.rank[pair[1]]), pair

    def apply(self, pair: Pair) -> set[Pair]:
        """Join a pair wherever it stands; returns the pairs that come up in a new place."""
        self.rank.setdefault(pair[0] + pair[1], len(self.rank))
        arisen: set[Pair] = set()
        for number in self.places.pop(pair):
            parts, count = self.splits[number]
            before = Counter(pairwise(parts))
            join(parts, pair)
            after = Counter(pairwise(parts))
            for other in before.keys() | after.keys():
                self.uses[other] += count * (after[other] - before[other])
            for other in after.keys() - before.keys():
                self.places[other].add(number)
                arisen.add(other)
        return arisen


def join(parts: list[str], pair: Pair) -> None:
    """Join each occurrence of a pair in a word, from the left."""
    i = 0
    while i < len(parts) - 1:
        if (parts[i], parts[i + 1]) == pair:
            parts[i : i + 2] = [parts[i] + parts[i + 1]]
        i += 1


def count_uses(words: Mapping[str, int], pairs: Sequence[Pair]) -> list[int]:
    """Count the applications of each merge by one encoding pass.

    Each token counts its own last merge once, and one application of a merge used up one of each
    part; so walking back from the last merge gives every count without replaying the training.
    """
    letters = dict.fromkeys(letter for word in words for letter in word)
    entries = [*letters, *(left + right for left, right in pairs)]
    ids = {entry: i for i, entry in enumerate(dict.fromkeys(entries))}
    tokenizer = Tokenizer(models.BPE(vocab=ids, merges=list(pairs)))
    made = [0] * len(ids)
    listed = list(words.items())
    for start in range(0, len(listed), _BATCH_WORDS):
        batch = listed[start : start + _BATCH_WORDS]
        encoded = tokenizer.encode_batch_fast([word for word, _ in batch])
        for encoding, (_, count) in zip(encoded, batch, strict=True):
            for token in encoding.ids:
                made[token] += count
    uses = []
    for left, right in reversed(pairs):
        count = made[ids[left + right]]
        made[ids[left]] += count
        made[ids[right]] += count
        uses.append(count)
    return uses[::-1]


def _chunks(words: Mapping[str, int]) -> Iterator[str]:
    """Join repeated words into lines of bounded length: the trainer takes no counts."""
    line: list[str] = []
    size = 0
    for word, count in words.items():
        per_line = _CHUNK_CHARACTERS // len(word) + 1
        for start in range(0, count, per_line):
            copies = min(per_line, count - start)
            line += [word] * copies
            size += len(word) * copies
            if size > _CHUNK_CHARACTERS:
                yield " ".join(line)
                line, size = [], 0
    yield " ".join(line)
