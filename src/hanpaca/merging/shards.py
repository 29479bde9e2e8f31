"""How merged tensors are dealt to files, and the files before their data: headers and room."""

import io
import os
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from hanpaca.checkpoints import meta
from hanpaca.checkpoints.dtypes import DTYPE_NAMES
from hanpaca.checkpoints.safetensors import encode_header, name_shards
from hanpaca.checkpoints.tensors import Extent, matrix_shape
from hanpaca.checkpoints.torch_zip import read_torch
from hanpaca.errors import ArtifactError
from hanpaca.merging.outputs import OutputTensor

_PIECE_BYTES = 1 << 20


@dataclass(frozen=True)
class Slice:
    """What one file holds of a tensor."""

    name: str
    """In the file."""
    tensor: OutputTensor
    rows: range
    columns: range
    head_rows: int = 0
    """Rows of a head that are to be interleaved; see `hanpaca.checkpoints.tensors.Stored`."""

    @property
    def dtype(self) -> torch.dtype:
        """Type of the data."""
        return self.tensor.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """As stored."""
        if (len(self.rows), len(self.columns)) == matrix_shape(self.tensor.shape):
            return self.tensor.shape
        return len(self.rows), len(self.columns)

    @property
    def num_bytes(self) -> int:
        """Size of the data."""
        return len(self.rows) * len(self.columns) * self.dtype.itemsize


Shards = Mapping[str, Sequence[Slice]]
"""File name to content."""
Prepare = Callable[[Path, Sequence[Slice]], list[Extent]]
"""Makes a file of full size without its data; says where the data of each slice goes."""


def hugging_face_shards(tensors: Sequence[OutputTensor], max_shard_bytes: int) -> Shards:
    """Safetensors files in the order of the base."""
    slices = []
    for tensor in tensors:
        num_rows, num_columns = matrix_shape(tensor.shape)
        slices.append(Slice(tensor.name, tensor, range(num_rows), range(num_columns)))
    return name_shards(slices, max_shard_bytes)


def meta_shards(
    tensors: Sequence[OutputTensor], config: Mapping[str, Any], num_files: int
) -> Shards:
    """Meta's files: every tensor cut by rows or columns, or copied to each.

    Raises:
        ArtifactError: A tensor has no place in Meta's format, or cannot be cut so often.
    """
    return {
        meta.file_name(number): [_share(tensor, config, number, num_files) for tensor in tensors]
        for number in range(num_files)
    }


def _share(tensor: OutputTensor, config: Mapping[str, Any], number: int, num_files: int) -> Slice:
    name = meta.meta_name(tensor.name)
    if name is None:
        raise ArtifactError(f"{tensor.name} has no place in Meta's format", "give hf as {format}")
    num_rows, num_columns = matrix_shape(tensor.shape)
    rows, columns = range(num_rows), range(num_columns)
    how, head_rows = meta.cut(tensor.name), meta.head_rows(tensor.name, config)
    unit = head_rows or 1
    if num_files > 1 and (
        (how == "columns" and num_columns % num_files)
        or (how == "rows" and num_rows % (unit * num_files) and tensor.name != meta.HEAD)
    ):
        raise ArtifactError(f"{tensor.name} {tensor.shape} cannot be cut into {num_files} files")
    if how == "rows":
        rows = meta.shares(num_rows, num_files)[number]
    elif how == "columns":
        columns = meta.shares(num_columns, num_files)[number]
    return Slice(name, tensor, rows, columns, head_rows)


def prepare_safetensors(file: Path, slices: Sequence[Slice]) -> list[Extent]:
    """Make a safetensors file without its data."""
    header = encode_header(slices, metadata={})
    at = len(header)
    extents = []
    for part in slices:
        extents.append(Extent(file, at, DTYPE_NAMES[part.dtype], part.rows, part.columns))
        at += part.num_bytes
    with file.open("wb") as stream:
        stream.write(header)
        stream.flush()
        _reserve(stream.fileno(), at)
    return extents


def prepare_torch(file: Path, slices: Sequence[Slice]) -> list[Extent]:
    """Make a file of `torch.save` without its data and checksums; see `seal_torch`."""
    # Never written to, so never given memory by the system.
    state = {part.name: torch.empty(part.shape, dtype=part.dtype) for part in slices}
    computes_sums = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        with torch.serialization.skip_data():
            torch.save(state, file)
    finally:
        torch.serialization.set_crc32_options(computes_sums)
    with file.open("rb+") as stream:
        _reserve(stream.fileno(), stream.seek(0, io.SEEK_END))
    places, _ = read_torch(file)
    return [
        replace(places[part.name].extents[0], rows=part.rows, columns=part.columns)
        for part in slices
    ]


def _reserve(descriptor: int, num_bytes: int) -> None:
    """Have a full disk told now, where the system can; it writes faster into what is there."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, num_bytes)
    else:  # macOS
        os.ftruncate(descriptor, num_bytes)


def seal_torch(file: Path) -> None:
    """Give every record its checksum: torch does not look, unzip and llama.cpp's converter do.

    Format: APPNOTE.TXT of PKWARE, 4.3.7, 4.3.9 and 4.3.12.
    """
    with zipfile.ZipFile(file) as archive, file.open("rb+") as stream:
        at = archive.start_dir
        for record in archive.infolist():
            begin = record.header_offset + 26
            data = begin + 4 + sum(struct.unpack("<HH", os.pread(stream.fileno(), 4, begin)))
            total, left = 0, record.file_size
            stream.seek(data)
            while piece := stream.read(min(left, _PIECE_BYTES)):
                total, left = zlib.crc32(piece, total), left - len(piece)
            checksum = struct.pack("<I", total)
            stream.flush()
            # In the descriptor after the data, and in the directory at the end.
            os.pwrite(stream.fileno(), checksum, data + record.file_size + 4)
            os.pwrite(stream.fileno(), checksum, at + 16)
            at += 46 + sum(struct.unpack("<HHH", os.pread(stream.fileno(), 6, at + 28)))


def seal_safetensors(file: Path) -> None:
    """Nothing is left to be done."""
