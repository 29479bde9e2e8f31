"""Importance matrices as llama.cpp keeps them: which columns of a matrix see large inputs.

Source: llama.cpp's tools/imatrix (`save_imatrix`, and `save_imatrix_legacy` for .dat files) and
tools/quantize (`load_imatrix`).
"""

import struct
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
from numpy.typing import NDArray

from hanpaca.checkpoints.gguf import Header, read_header
from hanpaca.errors import ArtifactError
from hanpaca.files import begins_as_gguf

_SUMS, _COUNTS = ".in_sum2", ".counts"
_MOST_NAME_BYTES = 256


@dataclass(frozen=True)
class ImportanceMatrix:
    """Sums of squared inputs of each matrix, by its GGUF name."""

    sums: Mapping[str, NDArray[np.float32]]
    counts: Mapping[str, float]
    """Tokens that were summed over."""
    datasets: tuple[str, ...]
    num_blocks: int
    block_tokens: int

    def means(self) -> dict[str, NDArray[np.float32]]:
        """What a quantizer weighs errors with, in llama.cpp's rounding; 1 for what saw nothing."""
        return {
            name: values / np.float32(count) if count else np.ones_like(values)
            for name, values in self.sums.items()
            for count in [self.counts[name]]
        }

    def described(self, file: str) -> dict[str, str | int]:
        """What llama-quantize writes into a file about the matrix it used."""
        return {
            "quantize.imatrix.file": file,
            **({"quantize.imatrix.dataset": self.datasets[0]} if self.datasets else {}),
            "quantize.imatrix.entries_count": len(self.sums),
            "quantize.imatrix.chunks_count": self.num_blocks,
        }


def write_imatrix(path: Path, matrix: ImportanceMatrix) -> None:
    """Write llama.cpp's GGUF form."""
    with closing(gguf.GGUFWriter(path, "llama")) as writer:
        writer.kv_data[0].pop("general.architecture")  # such files have none
        writer.add_type("imatrix")
        writer.add_array("imatrix.datasets", list(matrix.datasets))
        writer.add_uint32("imatrix.chunk_count", matrix.num_blocks)
        writer.add_uint32("imatrix.chunk_size", matrix.block_tokens)
        for name in sorted(matrix.sums):
            writer.add_tensor(name + _SUMS, matrix.sums[name].reshape(1, -1))
            writer.add_tensor(name + _COUNTS, np.array([[matrix.counts[name]]], np.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()


def read_imatrix(path: Path) -> ImportanceMatrix:
    """Read an importance matrix: GGUF, or the older .dat.

    Raises:
        ArtifactError: It is missing, damaged, or something else.
    """
    try:
        matrix = _read_gguf(path) if begins_as_gguf(path) else _read_legacy(path.read_bytes())
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, struct.error) as error:
        raise ArtifactError(f"{path}: not a whole importance matrix: {error}") from error
    for name, values in matrix.sums.items():
        if not np.isfinite(values).all() or (values < 0).any():
            raise ArtifactError(f"{path}: {name} holds numbers that are no sums of squares")
    return matrix


def _read_gguf(path: Path) -> ImportanceMatrix:
    header = read_header(path)
    fields = header.fields
    if fields.get("general.type") != "imatrix":
        raise ValueError("general.type is not 'imatrix'; make one with `hanpaca gguf imatrix`")
    datasets = fields.get("imatrix.datasets", [])
    tensors = {name: _values(path, header, name) for name in header.tensors}
    names = [name.removesuffix(_SUMS) for name in tensors if name.endswith(_SUMS)]
    if missing := [name for name in names if name + _COUNTS not in tensors]:
        raise ValueError(f"{missing[0]} has no counts")
    for name in names:
        if tensors[name + _COUNTS].size != 1:
            raise ValueError(f"{name} has experts, which Llama-style models have not")
    return ImportanceMatrix(
        sums={name: tensors[name + _SUMS] for name in names},
        counts={name: float(tensors[name + _COUNTS][0]) for name in names},
        datasets=tuple(map(str, datasets)) if isinstance(datasets, list) else (),
        num_blocks=int(fields.get("imatrix.chunk_count", 0)),
        block_tokens=int(fields.get("imatrix.chunk_size", 0)),
    )


def _values(path: Path, header: Header, name: str) -> NDArray[np.float32]:
    tensor = header.tensors[name]
    if tensor.kind != gguf.GGMLQuantizationType.F32:
        raise ValueError(f"{name} is {tensor.kind.name}, not F32")
    return np.fromfile(path, "<f4", tensor.num_bytes // 4, offset=tensor.begin)


def _read_legacy(data: bytes) -> ImportanceMatrix:
    """Numbers of 32 bits: entries; of each its name, calls and values; calls and the text's name.

    A value is the mean times the calls.
    """
    at = 0

    def number() -> int:
        nonlocal at
        at += 4
        return int(struct.unpack_from("<i", data, at - 4)[0])

    def take(size: int) -> bytes:
        nonlocal at
        if not 0 <= size <= len(data) - at:
            raise ValueError(f"{size} bytes are announced at {at}, but the file ends")
        at += size
        return data[at - size : at]

    sums, counts = {}, {}
    for _ in range(number()):
        size = number()
        name = take(size if size <= _MOST_NAME_BYTES else -1).decode()
        counts[name] = float(number())
        sums[name] = np.frombuffer(take(4 * number()), "<f4")
        if not counts[name]:  # as llama.cpp: means as they are
            counts[name] = 1.0
    if not sums:
        raise ValueError("it has no entries")
    num_blocks = number() if at < len(data) else 0
    dataset = take(number()).decode(errors="replace") if at < len(data) else ""
    return ImportanceMatrix(sums, counts, (dataset,) if dataset else (), num_blocks, 0)
