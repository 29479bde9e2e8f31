"""What a weights file says it holds, read without trusting it: names, types, shapes, no data.

Everything here is bounded: a header is refused by its claimed length before it is read, and a
shape before anything is multiplied. Nothing needs torch.
"""

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from hanpaca.errors import ArtifactError

MAX_HEADER_BYTES = 16_000_000
"""Of a safetensors file; a real model of 10,000 tensors needs about 1 MB."""
MAX_JSON_BYTES = 50_000_000
"""The largest `tokenizer.json` known has about 35 MB."""
TOKENIZER_FILES = (
    "tokenizer.model",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
)
"""What makes up a tokenizer in a model's folder."""
ELEMENT_BYTES = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 1),
    **dict.fromkeys(("I16", "U16", "F16", "BF16"), 2),
    **dict.fromkeys(("I32", "U32", "F32"), 4),
    **dict.fromkeys(("I64", "U64", "F64", "C64"), 8),
}
_MAX_DIMENSIONS = 8
_MAX_SIZE = 1 << 48


@dataclass(frozen=True, slots=True)
class TensorHeader:
    """One tensor without its data."""

    dtype: str
    """As safetensors and GGUF write it: F16, BF16, F32, Q4_K, …"""
    shape: tuple[int, ...]

    @property
    def num_parameters(self) -> int:
        """Number of elements."""
        return prod(self.shape)


def read_safetensors(file: Path) -> tuple[dict[str, TensorHeader], dict[str, str]]:
    """Read the header of one safetensors file: its tensors as they lie, and its metadata.

    Raises:
        ArtifactError: It is damaged, truncated, or not what its header says.
    """
    tree, header_bytes, num_bytes = _safetensors_tree(file)
    metadata = tree.pop("__metadata__", None) or {}
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise ArtifactError(f"{file}: damaged safetensors header: __metadata__ is no map of texts")
    placed = sorted((*_place(entry, name, file), name) for name, entry in tree.items())
    at = 0
    for begin, end, name in placed:
        if begin != at:
            raise ArtifactError(f"{file}: tensor {name} does not begin where the last one ends")
        at = end
    if num_bytes != 8 + header_bytes + at:
        raise ArtifactError(
            f"{file}: truncated or damaged: {num_bytes} bytes, but its header needs "
            f"{8 + header_bytes + at}; download it again"
        )
    tensors = {
        name: TensorHeader(tree[name]["dtype"], tuple(tree[name]["shape"])) for _, _, name in placed
    }
    return tensors, metadata


def checked_shape(shape: object, what: str) -> tuple[int, ...]:
    """Return a shape whose product can be formed safely.

    Raises:
        ArtifactError: It is no list of at most 8 sizes; `what` says whose.
    """
    fits = isinstance(shape, list | tuple) and len(shape) <= _MAX_DIMENSIONS
    if not fits or not all(type(n) is int and 0 <= n < _MAX_SIZE for n in shape):  # type: ignore[attr-defined]
        raise ArtifactError(f"{what}: impossible shape {str(shape)[:60]}; download the file again")
    return tuple(shape)  # type: ignore[arg-type]


def read_json(file: Path) -> dict[str, Any]:
    """Read a JSON object from a file that is not trusted.

    Raises:
        ArtifactError: It is missing, over 50 MB, damaged, no object, or says a key twice.
    """
    try:
        num_bytes = file.stat().st_size
        if num_bytes > MAX_JSON_BYTES:
            raise ArtifactError(f"{file}: {num_bytes} bytes is too much for a JSON file of a model")
        data = file.read_bytes()
    except OSError as error:
        raise ArtifactError(f"{file}: cannot be read: {error.strerror}") from error
    return parse_json(data, str(file))


def parse_json(data: bytes, what: str) -> dict[str, Any]:
    """Parse a JSON object that is not trusted; `what` is for messages.

    Raises:
        ArtifactError: It is damaged, no object, or says a key twice.
    """
    try:
        tree = json.loads(data, object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{what}: damaged JSON: {error}; download the file again") from error
    if not isinstance(tree, dict):
        raise ArtifactError(f"{what}: a JSON object is expected, found {type(tree).__name__}")
    return tree


def _safetensors_tree(file: Path) -> tuple[dict[str, Any], int, int]:
    try:
        num_bytes = file.stat().st_size
        with file.open("rb") as stream:
            first = stream.read(8)
            if len(first) < 8:
                raise ArtifactError(f"{file}: truncated, or no safetensors file: {num_bytes} bytes")
            (length,) = struct.unpack("<Q", first)
            if length > min(num_bytes - 8, MAX_HEADER_BYTES):
                raise ArtifactError(
                    f"{file}: damaged or truncated: its header claims {length} bytes; "
                    "download it again"
                )
            data = stream.read(length)
    except OSError as error:
        raise ArtifactError(f"{file}: cannot be read: {error.strerror}") from error
    return parse_json(data, f"{file}: safetensors header"), length, num_bytes


def _place(entry: object, name: str, file: Path) -> tuple[int, int]:
    """Where a tensor's data begins and ends, checked against its type and shape."""
    match entry:
        case {"dtype": str(dtype), "shape": shape, "data_offsets": [int(begin), int(end)]}:
            size = ELEMENT_BYTES.get(dtype)
            if size is None:
                raise ArtifactError(f"{file}: tensor {name} is of a type not known here: {dtype}")
            if begin < 0 or end - begin != size * prod(checked_shape(shape, f"{file}: {name}")):
                raise ArtifactError(f"{file}: tensor {name} does not lie where its shape says")
            return begin, end
    raise ArtifactError(f"{file}: damaged safetensors header at {name}; download it again")


def _without_duplicates(pairs: list[tuple[str, Any]]) -> Mapping[str, Any]:
    tree = dict(pairs)
    if len(tree) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"{twice!r} stands in it twice")
    return tree
