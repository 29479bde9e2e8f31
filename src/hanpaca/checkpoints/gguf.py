"""What the header of a GGUF file says, with every count checked against the file's size.

gguf-py's reader believes the counts it finds: one damaged byte in the length of an array makes it
fill the memory. It also lets tensors overlap. This reader refuses what llama.cpp refuses.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from gguf.constants import GGML_QUANT_SIZES, GGUF_DEFAULT_ALIGNMENT, GGUFValueType
from gguf.constants import GGMLQuantizationType as Type

from hanpaca.checkpoints.tensors import Encoding, Stored, in_one_piece, matrix_shape
from hanpaca.errors import ArtifactError
from hanpaca.files import BEGINNING_BYTES, GGUF_MAGIC, check_itself, check_regular

_VERSIONS = (2, 3)
_MAX_DIMENSIONS = 4
_MAX_HEADER_BYTES = 1 << 27
_MAX_ENTRIES = 1 << 22
"""Of all arrays together: a vocabulary of a million tokens with its merges stays below."""
_MOST_ELEMENTS = 2**62
_FORMATS = {
    GGUFValueType.UINT8: "<u1",
    GGUFValueType.INT8: "<i1",
    GGUFValueType.UINT16: "<u2",
    GGUFValueType.INT16: "<i2",
    GGUFValueType.UINT32: "<u4",
    GGUFValueType.INT32: "<i4",
    GGUFValueType.FLOAT32: "<f4",
    GGUFValueType.BOOL: "?",
    GGUFValueType.UINT64: "<u8",
    GGUFValueType.INT64: "<i8",
    GGUFValueType.FLOAT64: "<f8",
}


@dataclass(frozen=True)
class TensorEntry:
    """Where a tensor is and what it looks like, without its data."""

    kind: Type
    shape: tuple[int, ...]
    """Rows first, as numpy has it; GGUF writes it the other way round."""
    begin: int
    """Of the data, in bytes from the beginning of the file."""
    num_bytes: int

    def stored(self, file: Path) -> Stored:
        """As a tensor of any model; what is made of it is bfloat16."""
        encoding = Encoding(self.kind.name, self.num_bytes // max(1, matrix_shape(self.shape)[0]))
        return in_one_piece(file, self.begin, self.shape, dtype="BF16", encoding=encoding)


@dataclass(frozen=True)
class Header:
    """Everything but the data of the tensors."""

    fields: Mapping[str, Any]
    """Numbers, texts, and lists of either."""
    tensors: Mapping[str, TensorEntry]


def read_header(path: Path) -> Header:
    """Read the header and check that the file holds what it announces.

    Memory stays in proportion to what was read of the header, whatever it claims.

    Raises:
        ArtifactError: Not a GGUF file, damaged, or cut short.
    """
    _check_beginning(path)
    try:
        return _header(_Cursor(np.memmap(path, np.uint8, "r").data))
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path}: not a whole GGUF file: {error}; download it again") from error


def _check_beginning(path: Path) -> None:
    check_regular(path)
    try:
        with path.open("rb") as stream:
            check_itself(path, stream.read(BEGINNING_BYTES))
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read: {error.strerror}") from error


class _Cursor:
    """A place in the file that moves on as things are read; never past the end."""

    def __init__(self, data: memoryview) -> None:
        self.data = data
        self.at = 0
        self._entries = 0

    def take(self, num_bytes: int) -> memoryview:
        if num_bytes > len(self.data) - self.at:
            raise ValueError(f"{num_bytes} bytes are announced at {self.at}, but the file ends")
        self.at += num_bytes
        if self.at > _MAX_HEADER_BYTES:
            raise ValueError(f"its header has more than {_MAX_HEADER_BYTES} bytes")
        return self.data[self.at - num_bytes : self.at]

    def u32(self) -> int:
        return int(struct.unpack("<I", self.take(4))[0])

    def u64(self) -> int:
        return int(struct.unpack("<Q", self.take(8))[0])

    def text(self) -> str:
        return str(self.take(self.u64()), "utf-8")

    def numbers(self, kind: GGUFValueType, count: int) -> list[Any]:
        dtype = np.dtype(_FORMATS[kind])
        return list(np.frombuffer(self.take(count * dtype.itemsize), dtype).tolist())

    def value(self) -> Any:  # noqa: ANN401  # as many types as the format has
        kind = GGUFValueType(self.u32())
        if kind == GGUFValueType.STRING:
            return self.text()
        if kind != GGUFValueType.ARRAY:
            return self.numbers(kind, 1)[0]
        kind, count = GGUFValueType(self.u32()), self.u64()
        if kind == GGUFValueType.ARRAY:
            raise ValueError("an array of arrays, which llama.cpp does not know either")
        self._entries += count
        if self._entries > _MAX_ENTRIES:
            raise ValueError(f"its arrays have more than {_MAX_ENTRIES} entries")
        if kind == GGUFValueType.STRING:
            return [self.text() for _ in range(count)]
        return self.numbers(kind, count)


def _header(cursor: _Cursor) -> Header:
    if bytes(cursor.take(len(GGUF_MAGIC))) != GGUF_MAGIC:
        raise ValueError("it does not begin with GGUF")
    version = cursor.u32()
    if version not in _VERSIONS:
        raise ValueError(f"version {version}; only little-endian versions 2 and 3 can be read")
    num_tensors, num_fields = cursor.u64(), cursor.u64()
    fields: dict[str, Any] = {}
    for _ in range(num_fields):
        key = cursor.text()
        if key in fields:
            raise ValueError(f"the field {key} comes twice")
        fields[key] = cursor.value()
    announced = [_announced(cursor) for _ in range(num_tensors)]
    alignment = fields.get("general.alignment", GGUF_DEFAULT_ALIGNMENT)
    if not isinstance(alignment, int) or alignment < 1 or alignment & (alignment - 1):
        raise ValueError(f"general.alignment is {alignment!r}, which is no power of two")
    return Header(fields, _placed(announced, cursor, alignment))


def _announced(cursor: _Cursor) -> tuple[str, Type, tuple[int, ...], int]:
    name = cursor.text()
    num_dimensions = cursor.u32()
    if not 1 <= num_dimensions <= _MAX_DIMENSIONS:
        raise ValueError(f"tensor {name!r:.80} has {num_dimensions} dimensions")
    shape = tuple(cursor.u64() for _ in range(num_dimensions))[::-1]
    kind = Type(cursor.u32())
    if prod(shape) > _MOST_ELEMENTS or shape[-1] % GGML_QUANT_SIZES[kind][0]:
        raise ValueError(f"tensor {name!r:.80} cannot be {shape} in {kind.name}")
    return name, kind, shape, cursor.u64()


def _placed(
    announced: list[tuple[str, Type, tuple[int, ...], int]], cursor: _Cursor, alignment: int
) -> dict[str, TensorEntry]:
    """The tensors lie back to back, in the order announced, each at a multiple of `alignment`."""
    tensors: dict[str, TensorEntry] = {}
    first = at = _aligned(cursor.at, alignment)
    for name, kind, shape, offset in announced:
        if name in tensors:
            raise ValueError(f"the tensor {name!r:.80} comes twice")
        block, block_bytes = GGML_QUANT_SIZES[kind]
        num_bytes = prod(shape) // block * block_bytes
        if first + offset != at or num_bytes > len(cursor.data) - at:
            raise ValueError(f"the tensor {name!r:.80} does not lie where the header says")
        tensors[name] = TensorEntry(kind, shape, at, num_bytes)
        at = _aligned(at + num_bytes, alignment)
    return tensors


def _aligned(position: int, alignment: int) -> int:
    return -(-position // alignment) * alignment
