"""Sequences of different lengths into blocks of one length, without letting them see each other."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hanpaca.data.conversations import IGNORED
from hanpaca.errors import DataError

Ints = NDArray[np.int32]
Sequence_ = tuple[list[int], list[int]]
"""Token ids, and a label for each (-100 where nothing is learned)."""


@dataclass(frozen=True)
class Blocks:
    """Training blocks; every array is (blocks, tokens).

    `position_ids` start again at 0 with each sequence of a block. Transformers builds a
    block-diagonal attention mask from that when it is given no other, so packed sequences are
    computed as if they were alone.
    """

    input_ids: Ints
    labels: Ints
    position_ids: Ints

    def __len__(self) -> int:
        return len(self.input_ids)


def document_sequence(ids: Sequence[int], *, start_id: int, end_id: int) -> Sequence_:
    """A document between its start and end tokens; all but the start is learned."""
    return [start_id, *ids, end_id], [IGNORED, *ids, end_id]


def pack(sequences: Iterable[Sequence_], *, block_tokens: int, pad_id: int) -> Blocks:
    """Pack sequences into blocks, each into the fullest block it fits, in one pass.

    Sequences longer than a block are cut into several. A block is left behind once it is nearly
    full, so memory and time stay linear. The same input always gives the same blocks.

    Raises:
        DataError: There is nothing to pack.
    """
    finished: list[list[Sequence_]] = []
    open_blocks: list[list[Sequence_]] = []
    room: list[int] = []
    for ids, labels in sequences:
        for start in range(0, len(ids), block_tokens):
            part = ids[start : start + block_tokens], labels[start : start + block_tokens]
            fitting = [i for i, free in enumerate(room) if free >= len(part[0])]
            if fitting:
                best = min(fitting, key=room.__getitem__)
            else:
                open_blocks.append([])
                room.append(block_tokens)
                best = len(room) - 1
            open_blocks[best].append(part)
            room[best] -= len(part[0])
            if room[best] == 0 or len(room) > 32:
                fullest = min(range(len(room)), key=room.__getitem__)
                finished.append(open_blocks.pop(fullest))
                room.pop(fullest)
    finished += open_blocks
    if not finished:
        raise DataError("there is nothing to train on: no text, or no conversation, was found")
    return _lay_out(finished, block_tokens, pad_id)


def mix(
    blocks: Blocks, replay: Blocks | None, *, num_blocks: int, share: float, seed: int
) -> Blocks:
    """Draw `num_blocks` blocks in random order, a `share` of them from `replay`.

    A source that is used up is gone round again in a new order.
    """
    num_replay = round(num_blocks * share) if replay is not None else 0
    chance = np.random.default_rng(seed)
    chosen = [_rounds(len(blocks), num_blocks - num_replay, chance)]
    parts = [_take(blocks, chosen[0])]
    if replay is not None and num_replay:
        parts.append(_take(replay, _rounds(len(replay), num_replay, chance)))
    order = chance.permutation(num_blocks)
    return Blocks(
        *(
            np.concatenate([getattr(part, column) for part in parts])[order]
            for column in ("input_ids", "labels", "position_ids")
        )
    )


def content_hash(blocks: Blocks) -> str:
    """SHA-256 over all three arrays."""
    digest = hashlib.sha256(repr(blocks.input_ids.shape).encode())
    for array in (blocks.input_ids, blocks.labels, blocks.position_ids):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _lay_out(packed: Sequence[Sequence[Sequence_]], block_tokens: int, pad_id: int) -> Blocks:
    shape = len(packed), block_tokens
    input_ids = np.full(shape, pad_id, np.int32)
    labels = np.full(shape, IGNORED, np.int32)
    position_ids = np.zeros(shape, np.int32)
    for row, sequences in enumerate(packed):
        at = 0
        for ids, its_labels in sequences:
            span = slice(at, at + len(ids))
            input_ids[row, span] = ids
            labels[row, span] = its_labels
            labels[row, at] = IGNORED  # nothing of its own sequence predicts it
            position_ids[row, span] = np.arange(len(ids))
            at += len(ids)
        position_ids[row, at:] = np.arange(block_tokens - at)
    return Blocks(input_ids, labels, position_ids)


def _rounds(available: int, wanted: int, chance: np.random.Generator) -> NDArray[np.int64]:
    orders = [chance.permutation(available) for _ in range(-(-wanted // available))]
    return np.concatenate([*orders, np.empty(0, np.int64)])[:wanted]


def _take(blocks: Blocks, rows: NDArray[np.int64]) -> Blocks:
    return Blocks(blocks.input_ids[rows], blocks.labels[rows], blocks.position_ids[rows])
