"""Read what a torch pickle (`.bin`, `.pth`) holds, without running anything in it.

Since torch 1.6 such a file is an uncompressed zip of `data.pkl`, which describes the tensors, and
of one record for each storage. The description is read with an unpickler that knows tensors and
dictionaries only. Format: https://pytorch.org/docs/stable/notes/serialization.html
"""

import io
import pickle
import pickletools
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import BinaryIO

import torch

from hanpaca.errors import ArtifactError
from hanpaca.model.checkpoint import DTYPES
from hanpaca.model.stored import Stored, whole

_MAX_DESCRIPTION_BYTES = 100_000_000
_LOCAL_HEADER = struct.Struct("<4s22xHH")
_DAMAGED = (
    zipfile.BadZipFile,
    pickle.UnpicklingError,
    struct.error,
    ArithmeticError,
    AttributeError,
    EOFError,
    ImportError,
    LookupError,
    NotImplementedError,
    OSError,
    RecursionError,
    TypeError,
    ValueError,
)
"""What zipfile and pickle raise over a damaged file."""
_STORAGES = {
    "BFloat16Storage": torch.bfloat16,
    "HalfStorage": torch.float16,
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


@dataclass(frozen=True)
class _Storage:
    key: str
    dtype: torch.dtype


@dataclass(frozen=True)
class _Tensor:
    storage: _Storage
    first: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


def read_pickled_headers(file: Path) -> dict[str, Stored]:
    """Find the tensors of a torch file.

    Raises:
        ArtifactError: The file is damaged, older than torch 1.6, asks for code to be run, or holds
            something else than contiguous tensors by name.
    """
    if not file.is_file():
        raise ArtifactError(f"{file}: no such file")
    try:
        if not zipfile.is_zipfile(file):
            raise ArtifactError(
                f"{file}: truncated, or written by torch before 1.6: download it again, or load it "
                "with torch.load(weights_only=True) and save it"
            )
        with zipfile.ZipFile(file) as archive, file.open("rb") as stream:
            places = _places(archive, stream)
            if _read(stream, places.get("byteorder", (0, 0)))[:3] == b"big":
                raise ArtifactError(
                    f"{file}: is of a big-endian machine: save it again on this one"
                )
            described = _description(_read(stream, places["data.pkl"]), file)
        if not isinstance(described, dict):
            raise ArtifactError(f"{file}: holds no tensors by name")
        return {name: _stored(file, name, value, places) for name, value in described.items()}
    except _DAMAGED as error:
        told = " ".join(str(error).split())[:200]
        raise ArtifactError(f"{file}: damaged torch file: {told}; download it again") from error


def _read(stream: BinaryIO, place: tuple[int, int]) -> bytes:
    # By itself, because zipfile checks sums that torch can be told not to write.
    start, size = place
    if size > _MAX_DESCRIPTION_BYTES:
        raise zipfile.BadZipFile("the description of the tensors is too large to be one")
    stream.seek(start)
    return stream.read(size)


def _description(content: bytes, file: Path) -> object:
    _check_memo(content)
    return _Unpickler(io.BytesIO(content), file).load()


def _check_memo(content: bytes) -> None:
    """Refuse an index into the unpickler's memo that would make it fill the memory."""
    for opcode, argument, _ in pickletools.genops(content):
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and int(argument or 0) > len(content):
            raise pickle.UnpicklingError("memo index out of range")


def _places(archive: zipfile.ZipFile, stream: BinaryIO) -> dict[str, tuple[int, int]]:
    """Where each record begins and how long it is, by its name without the archive's own."""
    size = stream.seek(0, io.SEEK_END)
    found: dict[str, tuple[int, int]] = {}
    for info in archive.infolist():
        record = info.filename.partition("/")[2]
        stream.seek(info.header_offset)
        magic, name_length, extra_length = _LOCAL_HEADER.unpack(stream.read(_LOCAL_HEADER.size))
        start = info.header_offset + _LOCAL_HEADER.size + name_length + extra_length
        fits = magic == b"PK\x03\x04" and start + info.file_size <= size
        if not fits or info.compress_type != zipfile.ZIP_STORED or record in found:
            raise zipfile.BadZipFile(f"record {record} does not lie where the directory says")
        found[record] = (start, info.file_size)
    return found


def _stored(
    file: Path, name: object, value: object, places: Mapping[str, tuple[int, int]]
) -> Stored:
    if not isinstance(name, str) or not isinstance(value, _Tensor):
        raise ArtifactError(f"{file}: {name!r:.100} is not a tensor")
    if value.storage.dtype not in DTYPES.values():
        raise ArtifactError(
            f"{file}: tensor {name} is of type {value.storage.dtype}; known are {', '.join(DTYPES)}"
        )
    start, num_bytes = places[f"data/{value.storage.key}"]
    itemsize = value.storage.dtype.itemsize
    if not _is_contiguous(value):
        raise ArtifactError(f"{file}: tensor {name} is a view; save it again with .contiguous()")
    if value.first < 0 or (value.first + prod(value.shape)) * itemsize > num_bytes:
        raise ArtifactError(f"{file}: damaged torch file: tensor {name} is larger than its data")
    return whole(file, start + value.first * itemsize, value.storage.dtype, value.shape)


def _is_contiguous(tensor: _Tensor) -> bool:
    wanted = (prod(tensor.shape[at + 1 :]) for at in range(len(tensor.shape)))
    sizes = zip(tensor.shape, tensor.stride, wanted, strict=True)
    return 0 in tensor.shape or all(size == 1 or have == want for size, have, want in sizes)


class _Unpickler(pickle.Unpickler):
    """Makes descriptions of tensors; names what else a file wants, and refuses it."""

    def __init__(self, stream: BinaryIO, file: Path) -> None:
        super().__init__(stream)
        self.file = file

    def find_class(self, module: str, name: str) -> object:
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        known: dict[tuple[str, str], Callable[..., object]] = {
            ("collections", "OrderedDict"): OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
            ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
        }
        if (module, name) not in known:
            raise ArtifactError(
                f"{self.file}: asks for {module}.{name}, which is not a tensor: refused, because "
                "loading it could run a program; use the safetensors files of the model"
            )
        return known[module, name]

    def persistent_load(self, pid: tuple[object, ...]) -> _Storage:
        kind, dtype, key = pid[:3]
        if kind != "storage" or not isinstance(dtype, torch.dtype) or not isinstance(key, str):
            raise pickle.UnpicklingError("unknown kind of storage")
        return _Storage(key, dtype)


def _rebuild_tensor(
    storage: object, first: object, shape: object, stride: object, *_: object
) -> _Tensor:
    match storage, first, shape, stride:
        case _Storage(), int(), tuple(), tuple() if all(
            type(number) is int and number >= 0 for number in (*shape, *stride)
        ):
            return _Tensor(storage, first, shape, stride)
    raise pickle.UnpicklingError("unknown kind of tensor")


def _rebuild_parameter(tensor: object, *_: object) -> object:
    return tensor
