"""Hugging Face safetensors folders, read and written one tensor at a time.

Format: https://github.com/huggingface/safetensors#format (eight bytes of header length, a JSON
header, then the data of all tensors back to back).
"""

import json
import shutil
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Protocol, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from hanpaca.errors import ArtifactError
from hanpaca.model.headers import read_safetensors

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
DTYPES = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}
DTYPE_NAMES = {dtype: name for name, dtype in DTYPES.items()}
MAX_SHARD_BYTES = 5_000_000_000


@dataclass(frozen=True)
class TensorInfo:
    """Where a tensor is and what it looks like, without its data."""

    file: Path
    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def num_bytes(self) -> int:
        """Size of the data."""
        return prod(self.shape) * self.dtype.itemsize


def read_headers(folder: Path) -> dict[str, TensorInfo]:
    """Read what a folder's weights are, in the order they lie on disk.

    Raises:
        ArtifactError: A file is missing, damaged, or not what the index says.
    """
    headers: dict[str, TensorInfo] = {}
    for file in _weight_files(folder):
        for name, info in _read_header(file).items():
            if name in headers:
                raise ArtifactError(f"{file}: tensor {name} is also in {headers[name].file.name}")
            headers[name] = info
    if not (folder / WEIGHTS).is_file():
        _check_index(folder, headers)
    return headers


def read_file_headers(file: Path) -> dict[str, TensorInfo]:
    """Read what one safetensors file holds, in the order it lies there.

    Raises:
        ArtifactError: The file is missing or damaged.
    """
    if not file.is_file():
        raise ArtifactError(f"{file}: no such file")
    return _read_header(file)


@contextmanager
def opened(headers: Mapping[str, TensorInfo]) -> Iterator[Callable[[str], Tensor]]:
    """Open the files of `headers` and give a function from tensor name to memory-mapped tensor."""
    handles = {}
    try:
        for file in {info.file for info in headers.values()}:
            handles[file] = safe_open(file, framework="pt")
    except (OSError, SafetensorError) as error:
        raise ArtifactError(f"{file}: damaged safetensors file: {error}") from error
    yield lambda name: handles[headers[name].file].get_tensor(name)  # type: ignore[no-untyped-call]


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


def copy_side_files(source: Path, target: Path) -> None:
    """Copy what lies beside the weights: configuration, tokenizer, chat template."""
    for pattern in ("*.json", "*.jinja", "*.model", "LICENSE*", "*.txt"):
        for file in source.glob(pattern):
            if file.name not in (INDEX, "manifest.json"):
                shutil.copyfile(file, target / file.name)


def _weight_files(folder: Path) -> list[Path]:
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    try:
        names = sorted(set(_read_index(folder).values()))
    except FileNotFoundError as error:
        raise ArtifactError(f"{folder}: neither {WEIGHTS} nor {INDEX} is here") from error
    for name in names:
        if Path(name).name != name:
            raise ArtifactError(f"{folder / INDEX}: {name!r} points outside the folder")
        if not (folder / name).is_file():
            raise ArtifactError(f"{folder / name}: missing; {INDEX} names it: download it again")
    return [folder / name for name in names]


def _read_index(folder: Path) -> dict[str, str]:
    """Which file holds each tensor, as the index of a folder of shards says."""
    try:
        tree = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise ArtifactError(f"{folder / INDEX}: damaged index: {error}") from error
    places = tree.get("weight_map") if isinstance(tree, dict) else None
    if not isinstance(places, dict) or not all(isinstance(name, str) for name in places.values()):
        raise ArtifactError(f"{folder / INDEX}: damaged index: no weight_map from tensor to file")
    return places


def _check_index(folder: Path, headers: Mapping[str, TensorInfo]) -> None:
    """Each tensor must be where the index says, and nowhere else."""
    found = {name: info.file.name for name, info in headers.items()}
    for name, file in sorted(found.items() ^ _read_index(folder).items()):
        told = "is not in" if found.get(name) != file else "should not be in"
        raise ArtifactError(
            f"{folder / INDEX}: tensor {name} {told} {file}: the shards are of another model "
            "or incomplete; download them again"
        )


def _read_header(file: Path) -> dict[str, TensorInfo]:
    tensors, _ = read_safetensors(file)
    for name, header in tensors.items():
        if header.dtype not in DTYPES:
            raise ArtifactError(
                f"{file}: tensor {name} is of type {header.dtype}, which is not known here; "
                f"weights are {', '.join(DTYPES)}"
            )
    return {name: TensorInfo(file, DTYPES[one.dtype], one.shape) for name, one in tensors.items()}
