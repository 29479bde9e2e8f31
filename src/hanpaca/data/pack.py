"""Sequences of different lengths into blocks of one length, without letting them see each other."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hanpaca.errors import DataError, RecipeError

Ints = NDArray[np.int32]
IGNORED = -100
"""A label that is not learned (PyTorch's `ignore_index`)."""
Sequence_ = tuple[list[int], list[int]]
"""Token ids, and a label for each (`IGNORED` where nothing is learned)."""
Runs = Sequence[tuple[int, int]]
"""First and last-but-one positions of tokens that are learned."""
NOTHING = "there is nothing to train on: no text, or no conversation, was found"
_MOST_ROUNDS = 100_000
_MOST_OPEN = 32
"""Blocks that a sequence may still go into."""


class BlockColumn(Protocol):
    """An array of shape (blocks, tokens), or what makes its rows when they are asked for."""

    @property
    def shape(self) -> Any:  # noqa: ANN401  # NumPy's own is a tuple of any length
        """Blocks, and tokens of each."""

    @property
    def size(self) -> int:
        """Tokens in all."""

    def __len__(self) -> int: ...

    def __getitem__(self, row: int, /) -> Any: ...  # noqa: ANN401  # NumPy's own may be a number


@dataclass(frozen=True)
class Blocks:
    """Training blocks; every column is (blocks, tokens).

    `position_ids` start again at 0 with each sequence of a block. Transformers builds a
    block-diagonal attention mask from that when it is given no other, so packed sequences are
    computed as if they were alone.
    """

    input_ids: BlockColumn
    labels: BlockColumn
    position_ids: BlockColumn

    def __len__(self) -> int:
        return len(self.input_ids)


@dataclass(frozen=True)
class BlocksInMemory(Blocks):
    """Blocks as arrays of int32."""

    input_ids: Ints
    labels: Ints
    position_ids: Ints


@dataclass(frozen=True)
class PairBlocks(BlocksInMemory):
    """Blocks whose sequences are the better and the worse answer of a pair in turn.

    `labels` is (blocks, pairs): -100 where a block has no such pair, as most have fewer than one.
    """

    answers: Ints
    """(blocks, tokens): what is predicted, as `labels` of other blocks."""
    reference: NDArray[np.float32]
    """(blocks, pairs): how much likelier the better answer was before training, in nats."""


@dataclass(frozen=True, slots=True)
class Packable:
    """A sequence, or as much of one as a block holds."""

    ids: NDArray[Any]
    learned: Runs
    first: int = 0
    """Of a pair of sequences that stay together: tokens of the first; of one alone 0."""

    @classmethod
    def of(cls, sequence: Sequence_) -> "Packable":
        """From ids and labels; what is learned of a token is the token."""
        ids, labels = sequence
        return cls(np.asarray(ids, np.uint32), runs_of(labels))

    def cut(self, begin: int, end: int) -> "Packable":
        """What stands between two positions."""
        inside = ((max(a, begin), min(b, end)) for a, b in self.learned)
        return Packable(self.ids[begin:end], [(a - begin, b - begin) for a, b in inside if a < b])


def runs_of(labels: Sequence[int]) -> list[tuple[int, int]]:
    """Where labels say that something is learned."""
    learned = np.concatenate([[False], np.asarray(labels) != IGNORED, [False]])
    edges = np.flatnonzero(learned[1:] != learned[:-1]).tolist()
    return list(zip(edges[::2], edges[1::2], strict=True))


def document_sequence(ids: Sequence[int], *, start_id: int, end_id: int) -> Sequence_:
    """A document between its start and end tokens; all but the start is learned."""
    return [start_id, *ids, end_id], [IGNORED, *ids, end_id]


def fill(parts: Iterable[Packable], block_tokens: int) -> Iterator[list[Packable]]:
    """Fill blocks, each sequence into the fullest block it fits, in one pass and bounded memory.

    Sequences longer than a block are cut into several. A block is left behind once it is nearly
    full, so memory and time stay linear. The same input always gives the same blocks.
    """
    open_blocks: list[list[Packable]] = []
    room: list[int] = []
    for whole in parts:
        for start in range(0, len(whole.ids), block_tokens):
            is_long = len(whole.ids) > block_tokens
            part = whole.cut(start, start + block_tokens) if is_long else whole
            fitting = [i for i, free in enumerate(room) if free >= len(part.ids)]
            if fitting:
                best = min(fitting, key=room.__getitem__)
            else:
                open_blocks.append([])
                room.append(block_tokens)
                best = len(room) - 1
            open_blocks[best].append(part)
            room[best] -= len(part.ids)
            if room[best] == 0 or len(room) > _MOST_OPEN:
                fullest = min(range(len(room)), key=room.__getitem__)
                yield open_blocks.pop(fullest)
                room.pop(fullest)
    yield from open_blocks


def lay_out(
    block: Sequence[Packable], block_tokens: int, pad_id: int
) -> tuple[NDArray[np.uint32], list[int], list[tuple[int, int]]]:
    """Ids of a block, where its sequences (and the padding) begin, and what of it is learned."""
    ids = np.full(block_tokens, pad_id, np.uint32)
    starts: list[int] = []
    learned: list[tuple[int, int]] = []
    at = 0
    for part in block:
        ids[at : at + len(part.ids)] = part.ids
        starts += [at, at + part.first] if part.first else [at]
        learned += [(at + begin, at + end) for begin, end in part.learned]
        at += len(part.ids)
    return ids, [*starts, at] if at < block_tokens else starts, learned


def labels_of(ids: NDArray[Any], starts: Iterable[int], learned: Iterable[Sequence[int]]) -> Ints:
    """Labels of one block, -100 where nothing is learned."""
    labels = np.full(len(ids), IGNORED, np.int32)
    for begin, end in learned:
        labels[begin:end] = ids[begin:end]
    for start in starts:
        labels[start] = IGNORED  # nothing of its own sequence predicts it
    return labels


def positions_of(num_tokens: int, starts: Sequence[int]) -> Ints:
    """Positions of one block: they start again at 0 with each sequence."""
    begun = np.zeros(num_tokens, np.int32)
    begun[list(starts)] = list(starts)
    return np.arange(num_tokens, dtype=np.int32) - np.maximum.accumulate(begun)


def pack(sequences: Iterable[Sequence_], *, block_tokens: int, pad_id: int) -> BlocksInMemory:
    """Pack sequences into blocks in memory; see `fill`.

    Raises:
        DataError: There is nothing to pack.
    """
    return _in_memory(map(Packable.of, sequences), block_tokens, pad_id)


def pack_pairs(
    pairs: Iterable[tuple[Sequence_, Sequence_]], *, block_tokens: int, pad_id: int
) -> BlocksInMemory:
    """Pack pairs of sequences as `pack` does, both of a pair one after the other in one block.

    So the sequences of a block are the first and the second of a pair in turn.

    Args:
        pairs: None longer than a block.
        block_tokens: Tokens of a block.
        pad_id: What fills a block up.

    Raises:
        DataError: There is nothing to pack.
    """
    joined = (
        replace(Packable.of((first + second, labels + more)), first=len(first))
        for (first, labels), (second, more) in pairs
    )
    return _in_memory(joined, block_tokens, pad_id)


def _in_memory(parts: Iterable[Packable], block_tokens: int, pad_id: int) -> BlocksInMemory:
    laid = [lay_out(block, block_tokens, pad_id) for block in fill(parts, block_tokens)]
    if not laid:
        raise DataError(NOTHING)
    return BlocksInMemory(
        np.stack([ids for ids, _, _ in laid]).astype(np.int32),
        np.stack([labels_of(*one) for one in laid]),
        np.stack([positions_of(block_tokens, starts) for _, starts, _ in laid]),
    )


class _Chosen:
    """Rows of several columns, in an order of their own."""

    def __init__(self, columns: Sequence[BlockColumn], rows: NDArray[np.int64]) -> None:
        self._columns, self._rows = columns, rows
        self.shape = len(rows), int(columns[0].shape[1])

    @property
    def size(self) -> int:
        return self.shape[0] * self.shape[1]

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, row: int, /) -> Ints:
        source, inner = self._rows[row].tolist()
        return np.asarray(self._columns[source][inner], np.int32)


def mix(
    sources: Sequence[tuple[Blocks, float]],
    replay: Blocks | None,
    *,
    num_blocks: int,
    share: float,
    seed: int,
) -> Blocks:
    """Draw `num_blocks` blocks in random order, a `share` of them from `replay`.

    A source that is used up is gone round again in a new order. Nothing is copied.

    Args:
        sources: What is learned, each with its weight among the others.
        replay: Text of the old language, if any.
        num_blocks: Of the result.
        share: Of `replay`.
        seed: Of the order.

    Raises:
        RecipeError: A source would be gone round more often than anybody means.
    """
    num_replay = round(num_blocks * share) if replay is not None else 0
    chance = np.random.default_rng(seed)
    whole = [blocks for blocks, _ in sources]
    counts = _shared(num_blocks - num_replay, [weight for _, weight in sources])
    if replay is not None and num_replay:
        whole.append(replay)
        counts.append(num_replay)
    drawn = [
        _rounds(len(blocks), count, chance) for blocks, count in zip(whole, counts, strict=True)
    ]
    sources_of = np.repeat(np.arange(len(whole)), counts)
    rows = np.stack([sources_of, np.concatenate(drawn)], axis=1)[chance.permutation(num_blocks)]
    return Blocks(
        _Chosen([blocks.input_ids for blocks in whole], rows),
        _Chosen([blocks.labels for blocks in whole], rows),
        _Chosen([blocks.position_ids for blocks in whole], rows),
    )


def content_hash(blocks: Blocks) -> str:
    """SHA-256 over all three columns."""
    digest = hashlib.sha256(repr((len(blocks), int(blocks.input_ids.shape[1]))).encode())
    for column in (blocks.input_ids, blocks.labels, blocks.position_ids):
        for row in range(len(blocks)):
            digest.update(np.ascontiguousarray(column[row], np.int32).tobytes())
    return digest.hexdigest()


def _shared(number: int, weights: Sequence[float]) -> list[int]:
    """A whole number in parts by weight, that sum up to it."""
    total = sum(weights)
    ends = [round(end / total * number) for end in accumulate(weights)]
    return [end - begin for begin, end in zip([0, *ends], ends, strict=False)]


def _rounds(available: int, wanted: int, chance: np.random.Generator) -> NDArray[np.int64]:
    rounds = -(-wanted // available)
    if rounds > _MOST_ROUNDS:
        found = f"num_tokens goes round the texts {rounds:,} times"
        raise RecipeError(found, f"give more text or fewer {{num_tokens}}: {_MOST_ROUNDS:,} rounds")
    orders = [chance.permutation(available) for _ in range(rounds)]
    return np.concatenate([*orders, np.empty(0, np.int64)])[:wanted]
