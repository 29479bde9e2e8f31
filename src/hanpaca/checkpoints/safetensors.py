"""Hugging Face safetensors folders, written one tensor at a time.

Format: https://github.com/huggingface/safetensors#format (eight bytes of header length, a JSON
header, then the data of all tensors back to back).
"""

import json
import shutil
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from hanpaca.checkpoints.dtypes import DTYPE_NAMES
from hanpaca.checkpoints.headers import TOKENIZER_FILES
from hanpaca.files import MAX_JSON_BYTES, check_small

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
MAX_SHARD_BYTES = 5_000_000_000


@dataclass(frozen=True)
class PlannedTensor:
    """A tensor to be written, and how to make it when its turn comes."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    make: Callable[[], Tensor]

    @property
    def num_bytes(self) -> int:
        """Size of the data."""
        return prod(self.shape) * self.dtype.itemsize


def write_weights(
    folder: Path,
    plan: Sequence[PlannedTensor],
    *,
    max_shard_bytes: int = MAX_SHARD_BYTES,
    on_bytes: Callable[[int], None] = lambda num_bytes: None,
) -> None:
    """Write safetensors shards (and their index) holding one tensor in memory at a time.

    Args:
        folder: Exists; nothing in it looks complete before the caller renames it.
        plan: In the order of writing.
        max_shard_bytes: A tensor larger than this gets a shard of its own.
        on_bytes: Called with the number of bytes just written.
    """
    shards = name_shards(plan, max_shard_bytes)
    for name, shard in shards.items():
        write_safetensors(folder / name, shard, metadata={}, on_bytes=on_bytes)
    if len(shards) > 1:
        write_index(folder, shards)


def write_safetensors(
    file: Path,
    tensors: Sequence[PlannedTensor],
    *,
    metadata: Mapping[str, str],
    on_bytes: Callable[[int], None] = lambda num_bytes: None,
) -> None:
    """Write one safetensors file holding one tensor in memory at a time.

    The same content always gives the same bytes; the safetensors library writes metadata in an
    order that changes from process to process.
    """
    header = encode_header(tensors, metadata=metadata)
    with file.open("wb") as stream:
        stream.write(header)
        for tensor in tensors:
            data = tensor.make().contiguous().reshape(-1).view(torch.uint8)
            stream.write(data.numpy().data)
            on_bytes(tensor.num_bytes)


class Described(Protocol):
    """What a header says of a tensor."""

    @property
    def name(self) -> str:
        """Its name in the file."""

    @property
    def dtype(self) -> torch.dtype:
        """One of `DTYPES`."""

    @property
    def shape(self) -> tuple[int, ...]:
        """As stored."""

    @property
    def num_bytes(self) -> int:
        """Size of the data."""


TensorT = TypeVar("TensorT", bound=Described)


def encode_header(tensors: Iterable[Described], *, metadata: Mapping[str, str]) -> bytes:
    """All of a safetensors file that comes before the data, which lies back to back after it."""
    header: dict[str, object] = {"__metadata__": {"format": "pt", **metadata}}
    at = 0
    for tensor in tensors:
        header[tensor.name] = {
            "dtype": DTYPE_NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [at, at + tensor.num_bytes],
        }
        at += tensor.num_bytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def name_shards(tensors: Iterable[TensorT], max_shard_bytes: int) -> dict[str, list[TensorT]]:
    """Deal tensors to files in order; a tensor larger than a shard gets a file of its own."""
    shards: list[list[TensorT]] = [[]]
    room = max_shard_bytes
    for tensor in tensors:
        if shards[-1] and tensor.num_bytes > room:
            shards.append([])
            room = max_shard_bytes
        shards[-1].append(tensor)
        room -= tensor.num_bytes
    if len(shards) == 1:
        return {WEIGHTS: shards[0]}
    return {
        f"model-{number:05d}-of-{len(shards):05d}.safetensors": shard
        for number, shard in enumerate(shards, 1)
    }


def write_index(folder: Path, shards: Mapping[str, Sequence[Described]]) -> None:
    """Write which file holds each tensor."""
    index = {
        "metadata": {"total_size": sum(t.num_bytes for shard in shards.values() for t in shard)},
        "weight_map": {tensor.name: name for name, shard in shards.items() for tensor in shard},
    }
    (folder / INDEX).write_text(json.dumps(index, indent=2), encoding="utf-8")


def side_files(folder: Path) -> list[Path]:
    """What lies beside the weights: configuration, tokenizer, chat template.

    What is no regular file, or too large to be one of these, is none of them.

    Raises:
        ArtifactError: A file of the tokenizer is no regular one, or too large.
    """
    found = []
    for pattern in ("*.json", "*.jinja", "*.model", "LICENSE*", "*.txt"):
        for file in folder.glob(pattern):
            if file.name == "manifest.json" or file.match("*.index.json"):
                continue
            if file.name in TOKENIZER_FILES:
                check_small(file)
            if file.is_file() and file.stat().st_size <= MAX_JSON_BYTES:
                found.append(file)
    return found


def copy_side_files(source: Path, target: Path, *, leave_out: Sequence[str] = ()) -> None:
    """Copy what lies beside the weights.

    Args:
        source: Folder of a model.
        target: Exists.
        leave_out: Names of files that the caller writes, or the target has no use for.

    Raises:
        ArtifactError: See `side_files`.
    """
    for file in side_files(source):
        if file.name not in leave_out:
            shutil.copyfile(file, target / file.name)
