"""Tokens of texts as they are trained on, kept on disk and mapped into memory.

A folder holds the ids of all blocks, in two bytes each where the vocabulary allows, and where
sequences and learned parts begin: labels and positions are made from that when a block is asked
for. It has its name only when it is whole. The name is a hash of all that decides its content, so
it can be used by every training that needs the same blocks, and removed at any time.
"""

import json
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hanpaca.data.pack import (
    NOTHING,
    Blocks,
    Ints,
    Packable,
    fill,
    labels_of,
    lay_out,
    positions_of,
)
from hanpaca.errors import ArtifactError, DataError
from hanpaca.files import LOCK, PARTIAL, locked, read_json, remove, telling_where, write_atomically

_IDS, _STARTS, _LEARNED, _ABOUT = "ids.bin", "starts.bin", "learned.bin", "about.json"
_MOST_SHORT_IDS = 1 << 16
_WRITTEN_BLOCKS = 4096


@dataclass(frozen=True)
class BlockShape:
    """How blocks are laid out."""

    block_tokens: int
    pad_id: int
    vocab_size: int


class StoredTokens:
    """Blocks in a folder of the cache."""

    def __init__(self, folder: Path) -> None:
        """Open a folder.

        Raises:
            ArtifactError: It is not whole.
        """
        about = read_json(folder / _ABOUT)
        self.folder = folder
        self.num_blocks, self.block_tokens = int(about["num_blocks"]), int(about["block_tokens"])
        self.counts: Mapping[str, int] = about["counts"]
        """What was counted while the tokens were made."""
        size = self.num_blocks * self.block_tokens
        self._ids = _mapped(folder / _IDS, np.dtype(str(about["dtype"])), size)
        self._starts = _mapped(folder / _STARTS, np.dtype(np.int64), int(about["num_starts"]))
        runs = _mapped(folder / _LEARNED, np.dtype(np.int64), 2 * int(about["num_learned"]))
        self._learned = runs.reshape(-1, 2)

    def __reduce__(self) -> tuple[type["StoredTokens"], tuple[Path]]:
        """Other processes map the files themselves."""
        return StoredTokens, (self.folder,)

    def blocks(self) -> Blocks:
        """All blocks; nothing is read before a row is asked for."""
        return Blocks(_Ids(self), _Labels(self), _Positions(self))

    def ids(self, row: int) -> Ints:
        """Ids of one block."""
        begin = row * self.block_tokens
        return self._ids[begin : begin + self.block_tokens].astype(np.int32)

    def starts(self, row: int) -> list[int]:
        """Where its sequences begin."""
        begin = row * self.block_tokens
        first, last = np.searchsorted(self._starts, [begin, begin + self.block_tokens])
        return [int(start) - begin for start in self._starts[first:last]]

    def learned(self, row: int) -> list[tuple[int, int]]:
        """What of it is learned."""
        begin = row * self.block_tokens
        first, last = np.searchsorted(self._learned[:, 0], [begin, begin + self.block_tokens])
        return [(int(a) - begin, int(b) - begin) for a, b in self._learned[first:last]]


@dataclass(frozen=True)
class _Ids:
    tokens: StoredTokens

    @property
    def shape(self) -> tuple[int, int]:
        return self.tokens.num_blocks, self.tokens.block_tokens

    @property
    def size(self) -> int:
        return self.tokens.num_blocks * self.tokens.block_tokens

    def __len__(self) -> int:
        return self.tokens.num_blocks

    def __getitem__(self, row: int, /) -> Ints:
        return self.tokens.ids(row)


class _Labels(_Ids):
    def __getitem__(self, row: int, /) -> Ints:
        tokens = self.tokens
        return labels_of(tokens.ids(row), tokens.starts(row), tokens.learned(row))


class _Positions(_Ids):
    def __getitem__(self, row: int, /) -> Ints:
        return positions_of(self.tokens.block_tokens, self.tokens.starts(row))


def kept_tokens(
    folder: Path, shape: BlockShape, parts: Callable[[Counter[str]], Iterable[Packable]]
) -> tuple[StoredTokens, bool]:
    """Open the blocks of a folder of the cache, or make them.

    Args:
        folder: Named by all that decides what is in it.
        shape: Of the blocks.
        parts: Makes the sequences, in bounded memory; what it counts is kept with them.

    Returns:
        The blocks, and whether they were there already.

    Raises:
        DataError: There is no sequence.
        ResourceError: They cannot be written, or another process is writing them.
    """
    try:
        return StoredTokens(folder), True
    except (ArtifactError, KeyError, TypeError, ValueError):
        remove(folder)
    partial = folder.with_name(folder.name + PARTIAL)
    with telling_where(folder), locked(partial):
        for path in partial.iterdir():
            if path.name != LOCK:
                remove(path)
        _write(partial, shape, parts)
        remove(partial / LOCK)
        partial.rename(folder)
    return StoredTokens(folder), False


def _write(
    folder: Path, shape: BlockShape, parts: Callable[[Counter[str]], Iterable[Packable]]
) -> None:
    dtype = np.dtype(np.uint16 if shape.vocab_size <= _MOST_SHORT_IDS else np.uint32)
    counts: Counter[str] = Counter()
    num_blocks = num_starts = num_learned = 0
    starts, learned = array("q"), array("q")
    with (
        (folder / _IDS).open("wb") as ids_file,
        (folder / _STARTS).open("wb") as starts_file,
        (folder / _LEARNED).open("wb") as learned_file,
    ):
        for block in fill(parts(counts), shape.block_tokens):
            ids, begun, runs = lay_out(block, shape.block_tokens, shape.pad_id)
            at = num_blocks * shape.block_tokens
            ids_file.write(ids.astype(dtype).tobytes())
            starts.extend(at + start for start in begun)
            learned.extend(at + edge for run in runs for edge in run)
            num_blocks += 1
            num_starts += len(begun)
            num_learned += len(runs)
            if num_blocks % _WRITTEN_BLOCKS == 0:
                starts_file.write(starts.tobytes())
                learned_file.write(learned.tobytes())
                starts, learned = array("q"), array("q")
        starts_file.write(starts.tobytes())
        learned_file.write(learned.tobytes())
    if not num_learned:
        raise DataError(NOTHING)
    about = {
        "dtype": dtype.name,
        "block_tokens": shape.block_tokens,
        "num_blocks": num_blocks,
        "num_starts": num_starts,
        "num_learned": num_learned,
        "counts": counts,
    }
    write_atomically(folder / _ABOUT, json.dumps(about))


def _mapped(file: Path, dtype: np.dtype[Any], size: int) -> NDArray[Any]:
    try:
        found = np.memmap(file, dtype, mode="r")
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{file}: cannot be read: {error}") from error
    if len(found) != size:
        raise ArtifactError(f"{file}: not whole; it is made again")
    return found
