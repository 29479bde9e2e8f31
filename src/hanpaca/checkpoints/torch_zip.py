"""What a `.bin` or `.pth` of torch holds, without running what is pickled in it.

Format: a zip archive, every record stored as it is, with one pickle (`data.pkl`) that names the
tensors and one record for the data of each storage (torch/serialization.py, `_save`). The pickle is
interpreted by Python's own unpickler with a closed list of names, each of which stands for a
description of a tensor and never for the thing itself. Nothing needs torch.
"""

import io
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from hanpaca.checkpoints.tensors import ELEMENT_BYTES, Stored, checked_shape, in_one_piece
from hanpaca.errors import ArtifactError
from hanpaca.files import BEGINNING_BYTES, check_itself, check_regular

MAX_PICKLE_BYTES = 4_000_000
"""The pickle of a 7B model has about 40 kB."""
_LOCAL_HEADER = struct.Struct("<4s22xHH")
_MAX_DIRECTORY_BYTES = 32_000_000
_STORAGES = {
    "FloatStorage": "F32",
    "HalfStorage": "F16",
    "BFloat16Storage": "BF16",
    "DoubleStorage": "F64",
    "LongStorage": "I64",
    "IntStorage": "I32",
    "ShortStorage": "I16",
    "CharStorage": "I8",
    "ByteStorage": "U8",
    "BoolStorage": "BOOL",
}
_NESTED = ("state_dict", "model", "module")
_MALFORMED = (
    pickle.UnpicklingError,
    struct.error,
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    ImportError,
    LookupError,
    MemoryError,
    RecursionError,
    TypeError,
    ValueError,
)
"""What the unpickler raises on bytes that are no pickle."""


class _Record(NamedTuple):
    begin: int
    """Of the data, from the beginning of the file."""
    num_bytes: int
    is_stored: bool
    """Not compressed."""


class _Storage(NamedTuple):
    dtype: str
    num_elements: int
    begin: int


def read_torch(file: Path) -> tuple[dict[str, Stored], tuple[str, ...]]:
    """Read what tensors a file of `torch.save` holds, at its top or in a state dict inside.

    Returns:
        The tensors, and the names of the entries beside them that are none.

    Raises:
        ArtifactError: See `read_tree`; or there are no tensors.
    """
    tree = read_tree(file)
    inside = [tree.get(name) for name in _NESTED] if isinstance(tree, dict) else []
    for state in (tree, *inside):
        found = state if isinstance(state, dict) else {}
        tensors = {str(name): one for name, one in found.items() if isinstance(one, Stored)}
        if tensors:
            others = (repr(name) for name, one in found.items() if not isinstance(one, Stored))
            return tensors, tuple(others)
    raise ArtifactError(f"{file}: there are no tensors in it; give a state dict")


def read_tree(file: Path) -> object:
    """Read the object a file of `torch.save` holds, with a `Stored` for each tensor.

    Raises:
        ArtifactError: It is damaged, of the format before torch 1.6, or a pickle that wants to do
            more than describe tensors: names what it wants.
    """
    _check_directory(file)
    try:
        with zipfile.ZipFile(file) as archive, file.open("rb") as stream:
            records = _records(archive, stream)
            return _unpickle(records, stream, file)
    except (zipfile.BadZipFile, NotImplementedError, OSError, ValueError) as error:
        raise ArtifactError(f"{file}: damaged: {error}; download it again") from error


def _records(archive: zipfile.ZipFile, stream: BinaryIO) -> dict[str, _Record]:
    """Where each record lies; read here, as zipfile checks sums that torch may not have written."""
    size, found = stream.seek(0, io.SEEK_END), {}
    for info in archive.infolist():
        stream.seek(info.header_offset)
        local = stream.read(_LOCAL_HEADER.size)
        if len(local) < _LOCAL_HEADER.size:
            raise zipfile.BadZipFile(f"record {info.filename} is cut off")
        magic, name_length, extra_length = _LOCAL_HEADER.unpack(local)
        begin = info.header_offset + _LOCAL_HEADER.size + name_length + extra_length
        if magic != b"PK\x03\x04" or begin + info.compress_size > size or info.filename in found:
            raise zipfile.BadZipFile(f"record {info.filename} is not where the directory says")
        is_stored = info.compress_type == zipfile.ZIP_STORED
        found[info.filename] = _Record(begin, info.file_size, is_stored)
    return found


def _unpickle(records: dict[str, _Record], stream: BinaryIO, file: Path) -> object:
    name = next((name for name in records if name.endswith("/data.pkl")), None)
    if name is None:
        raise ArtifactError(f"{file}: a zip archive, but not one written by torch.save")
    if not records[name].is_stored or records[name].num_bytes > MAX_PICKLE_BYTES:
        raise ArtifactError(f"{file}: its data.pkl is compressed or over 4 MB: not torch's writing")
    folder = name.removesuffix("data.pkl")
    order = records.get(f"{folder}byteorder")
    if order and _content(stream, order)[:3] == b"big":
        raise ArtifactError(f"{file}: is of a big-endian machine: save it again on this one")
    try:
        data = _content(stream, records[name])
        return _TensorUnpickler(data, f"{folder}data/", records, file).load()
    except _MALFORMED as error:
        raise ArtifactError(f"{file}: damaged pickle: {error}; download it again") from error


def _content(stream: BinaryIO, record: _Record) -> bytes:
    stream.seek(record.begin)
    return stream.read(min(record.num_bytes, MAX_PICKLE_BYTES))


class _TensorUnpickler(pickle._Unpickler):
    """The unpickler in Python: its memo is a dict, so no index makes it allocate gigabytes."""

    def __init__(self, data: bytes, folder: str, records: dict[str, _Record], file: Path) -> None:
        super().__init__(io.BytesIO(data), encoding="utf-8")
        self.folder, self.records, self.file = folder, records, file

    def find_class(self, module: str, name: str) -> Any:  # noqa: ANN401  # pickle's signature
        """Give what stands for a name; a new function each time, so that none can be altered."""
        match module, name:
            case "collections", "OrderedDict":
                return OrderedDict
            case "torch", storage if storage in _STORAGES:
                return _STORAGES[storage]
            case "torch", "Size":
                return lambda sizes=(): tuple(sizes)
            case "torch._utils", "_rebuild_tensor_v2":
                return self._tensor()
            case "torch._utils", "_rebuild_parameter":
                return lambda tensor, *rest: tensor
        raise ArtifactError(
            f"{self.file}: it is a pickle that asks for {module}.{name}, which is no weight; it "
            "was not run. Take the file from a source you trust, as safetensors"
        )

    def persistent_load(self, pid: Any) -> _Storage:  # noqa: ANN401  # pickle's signature
        """Check that the record of a storage is there in full."""
        match pid:
            case ("storage", str(dtype), str(key), str(), int(num_elements)):
                found = self.records.get(self.folder + key)
                num_bytes = found.num_bytes if found else -1
                if found and found.is_stored and num_bytes == num_elements * ELEMENT_BYTES[dtype]:
                    return _Storage(dtype, num_elements, found.begin)
                raise ArtifactError(
                    f"{self.file}: the data of storage {key[:40]} is {num_bytes} bytes, not "
                    f"{num_elements * ELEMENT_BYTES[dtype]}; download the file again"
                )
        raise ValueError(f"unknown storage {str(pid)[:60]}")

    def _tensor(self) -> Callable[..., Stored]:
        def describe(
            storage: object, offset: int, size: object, stride: object, *rest: object
        ) -> Stored:
            if not isinstance(storage, _Storage):
                raise TypeError("a tensor without a storage")
            shape = checked_shape(size, f"{self.file}: a tensor")
            if not 0 <= offset <= storage.num_elements - prod(shape):
                raise ValueError(f"a tensor of shape {shape} in too small a storage")
            steps = checked_shape(stride, f"{self.file}: the stride of a tensor")
            if len(steps) != len(shape):
                raise ValueError(f"a stride {steps} for the shape {shape}")
            begin = storage.begin + offset * ELEMENT_BYTES[storage.dtype]
            found = in_one_piece(self.file, begin, shape, dtype=storage.dtype)
            return found if _is_contiguous(shape, steps) else replace(found, is_view=True)

        return describe


def _is_contiguous(shape: tuple[int, ...], stride: tuple[int, ...]) -> bool:
    wanted = (prod(shape[at + 1 :]) for at in range(len(shape)))
    sizes = zip(shape, stride, wanted, strict=True)
    return 0 in shape or all(size == 1 or have == want for size, have, want in sizes)


def _check_directory(file: Path) -> None:
    """Refuse a zip directory that would take much memory; `zipfile` reads it whole.

    Format: PKWARE APPNOTE 4.3.14-16, the end records.
    """
    try:
        check_regular(file)
        with file.open("rb") as stream:
            first = stream.read(BEGINNING_BYTES)
            check_itself(file, first)
            if first[:4] != b"PK\x03\x04":
                raise ArtifactError(
                    f"{file}: not a file of torch.save, or written before 1.6; save it again with "
                    "a current torch, or as safetensors"
                )
            num_bytes = stream.seek(0, io.SEEK_END)
            stream.seek(max(0, num_bytes - 22 - 65535))
            tail = stream.read()
            at = tail.rfind(b"PK\x05\x06")
            if at < 0 or at + 22 > len(tail):
                raise ArtifactError(f"{file}: truncated: the end is missing; download it again")
            (length,) = struct.unpack_from("<I", tail, at + 12)
            if at >= 20 and tail[at - 20 : at - 16] == b"PK\x06\x07":
                (place,) = struct.unpack_from("<Q", tail, at - 12)
                stream.seek(min(place, num_bytes))
                record = stream.read(56)
                length = struct.unpack_from("<Q", record, 40)[0] if len(record) == 56 else length
    except OSError as error:
        raise ArtifactError(f"{file}: cannot be read: {error.strerror}") from error
    if length > _MAX_DIRECTORY_BYTES:
        raise ArtifactError(f"{file}: a zip directory of {length} bytes: not torch's writing")
