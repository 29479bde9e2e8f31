import io
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from hanpaca.checkpoints.torch_zip import MAX_PICKLE_BYTES, read_torch
from hanpaca.errors import ArtifactError


def zipped(file: Path, data: bytes, *, compress: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(file, "w", compress) as archive:
        archive.writestr("archive/data.pkl", data)
    return file


def described(file: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    tensors, _ = read_torch(file)
    return {name: (one.kind, one.shape) for name, one in tensors.items()}


class Runs:
    """Unpickling it makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float64", "int64", "uint8"])
def test_tensors_are_what_torch_saved(tmp_path: Path, dtype: str) -> None:
    whole = torch.zeros(4, 6, dtype=getattr(torch, dtype))
    saved = {"w": whole, "part": whole.t()[1:, 2:], "empty": whole[:0], "scalar": whole[0, 0]}
    torch.save(saved, tmp_path / "m.bin")
    found, _ = read_torch(tmp_path / "m.bin")
    assert {name: one.shape for name, one in found.items()} == {
        name: tuple(tensor.shape) for name, tensor in saved.items()
    }


def test_modules_parameters_and_nested_state_dicts_are_read(tmp_path: Path) -> None:
    layer = nn.Linear(3, 2)
    torch.save({"epoch": 3, "model": layer.state_dict()}, tmp_path / "m.pth")
    assert described(tmp_path / "m.pth") == {"weight": ("F32", (2, 3)), "bias": ("F32", (2,))}
    torch.save(dict(layer.named_parameters()), tmp_path / "p.pth")
    assert described(tmp_path / "p.pth")["weight"] == ("F32", (2, 3))


def test_code_in_a_pickle_is_named_and_not_run(tmp_path: Path) -> None:
    torch.save({"w": torch.zeros(2), "x": Runs(tmp_path / "made")}, tmp_path / "m.bin")
    with pytest.raises(ArtifactError, match=r"asks for posix\.mkdir.*was not run"):
        read_torch(tmp_path / "m.bin")
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (b"cbuiltins\neval\n.", "builtins.eval"),
        (b"ctorch\nload\n.", "torch.load"),
        (b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(tR.", "damaged pickle"),
        (b"\x80\x02ctorch\nFloatStorage\n)R.", "damaged pickle"),
        (b"\x80\x02r\xff\xff\xff\x7f.", "damaged pickle"),
        (b"\x80\x02Nr\xff\xff\xff\x7f.", "no tensors"),  # 32 GB of memo in C's unpickler
        (b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x0f.", "damaged pickle"),
        (b"\x80\x02\x82\x01.", "damaged pickle"),
        (b"\x80\x02]" + b"2a" * 3 + b".", "no tensors"),
        (b"", "damaged pickle"),
    ],
)
def test_hand_made_pickles_are_refused(tmp_path: Path, name: bytes, message: str) -> None:
    with pytest.raises(ArtifactError, match=message):
        read_torch(zipped(tmp_path / "m.bin", name))


class _Pickler(pickle.Pickler):
    """Writes torch's way of naming a storage."""

    def persistent_id(self, obj: object) -> object:
        return obj if isinstance(obj, tuple) and obj[:1] == ("storage",) else None


class _Tensor:
    def __init__(self, num_elements: int, size: tuple[int, ...]) -> None:
        self.num_elements, self.size = num_elements, size

    def __reduce__(self) -> tuple[Any, ...]:
        storage = ("storage", torch.FloatStorage, "0", "cpu", self.num_elements)
        return torch._utils._rebuild_tensor_v2, (storage, 0, self.size, (1,), False, None)


@pytest.mark.parametrize(
    ("num_elements", "size", "message"),
    [
        (4, (4,), ""),
        (4, (5,), "too small a storage"),
        (1 << 40, (1 << 40,), "is 16 bytes, not"),
        (4, (1 << 60,), "impossible shape"),
        (4, (-1,), "impossible shape"),
    ],
)
def test_a_tensor_must_lie_in_its_storage(
    tmp_path: Path, num_elements: int, size: tuple[int, ...], message: str
) -> None:
    stream = io.BytesIO()
    _Pickler(stream, protocol=2).dump({"w": _Tensor(num_elements, size)})
    file = zipped(tmp_path / "m.bin", stream.getvalue())
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("archive/data/0", b"\0" * 16)
    if not message:
        assert described(file) == {"w": ("F32", (4,))}
        return
    with pytest.raises(ArtifactError, match=message):
        read_torch(file)


def test_compressed_or_huge_pickles_are_not_inflated(tmp_path: Path) -> None:
    bomb = b"\0" * (MAX_PICKLE_BYTES + 1)
    with pytest.raises(ArtifactError, match="compressed or over 4 MB"):
        read_torch(zipped(tmp_path / "m.bin", bomb, compress=zipfile.ZIP_DEFLATED))
    with pytest.raises(ArtifactError, match="compressed or over 4 MB"):
        read_torch(zipped(tmp_path / "m.bin", b"N." * 5, compress=zipfile.ZIP_DEFLATED))


def test_a_huge_zip_directory_is_not_read(tmp_path: Path) -> None:
    file = zipped(tmp_path / "m.bin", b"N.")
    data = bytearray(file.read_bytes())
    struct.pack_into("<I", data, len(data) - 10, 3_000_000_000)
    file.write_bytes(data)
    with pytest.raises(ArtifactError, match="zip directory of 3000000000 bytes"):
        read_torch(file)


def test_old_and_foreign_files_are_told(tmp_path: Path) -> None:
    old = {"w": torch.zeros(2)}
    torch.save(old, tmp_path / "old.bin", _use_new_zipfile_serialization=False)
    with pytest.raises(ArtifactError, match="save it again"):
        read_torch(tmp_path / "old.bin")
    with zipfile.ZipFile(tmp_path / "z.bin", "w") as archive:
        archive.writestr("a.txt", "b")
    with pytest.raises(ArtifactError, match="not one written by torch"):
        read_torch(tmp_path / "z.bin")
    torch.save([1], tmp_path / "list.bin")
    with pytest.raises(ArtifactError, match="no tensors"):
        read_torch(tmp_path / "list.bin")
    with pytest.raises(ArtifactError, match="cannot be read"):
        read_torch(tmp_path / "none.bin")


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(at=st.integers(0, 5000), value=st.integers(0, 255), cut=st.integers(0, 40))
def test_a_changed_or_cut_file_never_crashes(tmp_path: Path, at: int, value: int, cut: int) -> None:
    file = tmp_path / "m.bin"
    torch.save({"w": torch.zeros(2, 3), "v": torch.zeros(4).half()}, file)
    data = bytearray(file.read_bytes())
    data[at % len(data)] = value
    file.write_bytes(data[: len(data) - max(0, cut - 30)])
    with suppress(ArtifactError):
        read_torch(file)
