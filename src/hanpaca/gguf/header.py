"""What a GGUF file says it holds, read without trusting it and without its data.

`gguf.GGUFReader` maps the whole file and believes every count in it; this reads the header from the
beginning, never more than the file has, and keeps of a list only its length.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import BinaryIO

from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

from hanpaca.errors import ArtifactError

_FIXED = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _LIST = 8, 9
_MAX_HEADER_BYTES = 100_000_000
_MAX_STRING_BYTES = 10_000_000
_MAX_STRINGS = 2_000_000
_MAX_FIELDS = 10_000
_MAX_TENSORS = 100_000
_VERSIONS = (2, 3)


@dataclass(frozen=True, slots=True)
class ListLength:
    """A list of the header, of which only the length was kept."""

    length: int


@dataclass(frozen=True)
class GgufHeader:
    """The header of a GGUF file."""

    fields: Mapping[str, int | float | bool | str | ListLength]
    tensors: Mapping[str, tuple[str, tuple[int, ...]]]
    """Type and shape of each tensor, the shape in Hugging Face's order."""


def read_gguf_header(file: Path) -> GgufHeader:
    """Read the header of a GGUF file.

    Raises:
        ArtifactError: It is no GGUF file, truncated, or its header claims what cannot be.
    """
    try:
        with file.open("rb") as stream:
            reader = _Reader(stream, file)
            reader.check_magic()
            num_tensors, num_fields = reader.number("Q"), reader.number("Q")
            if num_tensors > _MAX_TENSORS or num_fields > _MAX_FIELDS:
                raise reader.damaged(f"{num_tensors} tensors and {num_fields} fields")
            fields = dict(reader.field() for _ in range(num_fields))
            places = [reader.tensor() for _ in range(num_tensors)]
            _check_extent(reader, places, fields.get("general.alignment", 32))
    except OSError as error:
        raise ArtifactError(f"{file}: cannot be read: {error.strerror}") from error
    tensors = {name: (kind, shape) for name, kind, shape, _, _ in places}
    if len(tensors) < len(places):
        raise ArtifactError(f"{file}: damaged: a tensor stands in it twice")
    return GgufHeader(fields, tensors)


class _Reader:
    """Reads numbers and strings, never past the end of the file."""

    def __init__(self, stream: BinaryIO, file: Path) -> None:
        self.stream, self.file = stream, file
        self.num_bytes = file.stat().st_size
        self.room = _MAX_HEADER_BYTES

    def damaged(self, what: str) -> ArtifactError:
        """Say what is wrong with the header."""
        return ArtifactError(f"{self.file}: damaged GGUF header: {what}; download it again")

    def check_magic(self) -> None:
        """Check that this is GGUF of a version known here."""
        if self.take(4) != b"GGUF":
            raise ArtifactError(f"{self.file}: not a GGUF file (old .ggml files cannot be read)")
        version = self.number("I")
        if version not in _VERSIONS:
            raise ArtifactError(f"{self.file}: GGUF version {version}; only 2 and 3 can be read")

    def take(self, length: int) -> bytes:
        """Read exactly so many bytes; in all at most 100 MB."""
        self.room -= length
        if length > _MAX_STRING_BYTES or self.room < 0:
            raise self.damaged(f"a text of {length} bytes")
        data = self.stream.read(length)
        if len(data) < length:
            raise ArtifactError(f"{self.file}: truncated GGUF file; download it again")
        return data

    def number(self, code: str) -> int:
        """Read a little-endian whole number."""
        return int(struct.unpack(f"<{code}", self.take(struct.calcsize(f"<{code}")))[0])

    def text(self) -> str:
        """Read a string."""
        return self.take(self.number("Q")).decode(errors="replace")

    def field(self) -> tuple[str, int | float | bool | str | ListLength]:
        """Read a key and its value."""
        return self.text(), self.value(self.number("I"))

    def value(self, kind: int) -> int | float | bool | str | ListLength:
        """Read a value; of a list only the length is kept."""
        if kind in _FIXED:
            data = self.take(struct.calcsize(f"<{_FIXED[kind]}"))
            value: int | float | bool = struct.unpack(f"<{_FIXED[kind]}", data)[0]
            return value
        if kind == _STRING:
            return self.text()
        if kind != _LIST:
            raise self.damaged(f"value of kind {kind}")
        inner, length = self.number("I"), self.number("Q")
        self.skip_list(inner, length)
        return ListLength(length)

    def skip_list(self, kind: int, length: int) -> None:
        """Go past the elements of a list of numbers or strings."""
        if kind in _FIXED:
            size = length * struct.calcsize(f"<{_FIXED[kind]}")
            if size > self.num_bytes - self.stream.tell():
                raise self.damaged(f"a list of {length} numbers")
            self.stream.seek(size, 1)
        elif kind == _STRING and length <= _MAX_STRINGS:
            for _ in range(length):
                self.take(self.number("Q"))
        else:
            raise self.damaged(f"a list of {length} values of kind {kind}")

    def tensor(self) -> tuple[str, str, tuple[int, ...], int, int]:
        """Read name, type, shape, and where the data begins and ends."""
        name, num_dimensions = self.text(), self.number("I")
        if num_dimensions > 4:
            raise self.damaged(f"{name} has {num_dimensions} dimensions")
        shape = tuple(self.number("Q") for _ in range(num_dimensions))[::-1]
        number, begin = self.number("I"), self.number("Q")
        try:
            kind = GGMLQuantizationType(number)
        except ValueError as error:
            raise self.damaged(f"{name} is of type {number}") from error
        block, size = GGML_QUANT_SIZES[kind]
        return name, kind.name, shape, begin, begin + prod(shape) // block * size


def _check_extent(
    reader: _Reader,
    places: list[tuple[str, str, tuple[int, ...], int, int]],
    alignment: object,
) -> None:
    if not isinstance(alignment, int) or not 0 < alignment <= 1 << 20:
        raise reader.damaged(f"general.alignment is {alignment!r}")
    start = -(-reader.stream.tell() // alignment) * alignment
    for name, _, shape, _, end in places:
        if start + end > reader.num_bytes:
            raise ArtifactError(
                f"{reader.file}: truncated: tensor {name} {shape} ends at byte {start + end}, the "
                f"file at {reader.num_bytes}; download it again"
            )
