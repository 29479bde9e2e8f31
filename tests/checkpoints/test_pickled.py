"""Torch files read without torch, against torch; and files that are not what they say."""

import os
import struct
import tracemalloc
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from hanpaca.checkpoints.dtypes import DTYPES as TORCH
from hanpaca.checkpoints.tensors import Stored
from hanpaca.checkpoints.torch_zip import read_torch
from hanpaca.checkpoints.weights import check_readable, read_weights
from hanpaca.errors import ArtifactError

QUIET = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
DTYPES = [torch.float16, torch.bfloat16, torch.float32]
SHAPES = st.lists(st.integers(0, 4), max_size=3).map(tuple)
STATES = st.dictionaries(
    st.text(min_size=1, max_size=6),
    st.tuples(st.sampled_from(DTYPES), SHAPES),
    min_size=1,
    max_size=6,
)


def read(stored: Stored) -> Tensor:
    (extent,) = stored.extents
    with extent.file.open("rb") as stream:
        stream.seek(extent.offset)
        data = bytearray(stream.read(extent.num_bytes))
    if not data:
        return torch.empty(stored.shape, dtype=TORCH[stored.dtype])
    return torch.frombuffer(data, dtype=TORCH[stored.dtype]).view(stored.shape)


def check(file: Path, state: Mapping[str, Tensor]) -> None:
    found, others = read_torch(file)
    assert list(found) == list(state)
    assert not others
    for name, tensor in state.items():
        assert found[name].shape == tuple(tensor.shape)
        assert TORCH[found[name].dtype] == tensor.dtype
        assert torch.equal(read(found[name]), tensor), name


@QUIET
@given(wanted=STATES, protocol=st.sampled_from([2, 3, 4]))
def test_what_torch_saves_is_found(
    wanted: dict[str, tuple[torch.dtype, tuple[int, ...]]],
    protocol: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    file = tmp_path_factory.mktemp("pickled") / "state.bin"
    state = {name: torch.randn(shape).to(dtype) for name, (dtype, shape) in wanted.items()}
    torch.save(state, file, pickle_protocol=protocol)
    check(file, state)


def test_a_modules_state_with_shared_storage_is_found(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    rows = torch.randn(6, 5)
    state = OrderedDict(module.state_dict())
    state._metadata = module.state_dict()._metadata  # type: ignore[attr-defined]
    state |= {"a": rows[1:3], "b": rows[3:], "whole": nn.Parameter(rows)}
    torch.save(state, tmp_path / "state.bin")
    check(tmp_path / "state.bin", {name: tensor.detach() for name, tensor in state.items()})


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch /tmp/hanpaca-was-here",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a": Evil()}, r"asks for (posix|nt)\.system"),
        ({"a": torch.ones(2, 3).t()}, "tensor a is a view"),
        ({"a": 3, "b": torch.ones(2)}, "'a' is not a tensor"),
        ({"a": 3}, "no tensors in it"),
        ([torch.ones(2)], "no tensors in it"),
        ({"a": torch.ones(2, dtype=torch.int64)}, "tensor a is of type I64"),
        ({"a": nn.Linear(2, 2)}, "asks for torch.nn.modules.linear.Linear"),
    ],
)
def test_what_is_no_state_of_weights_is_refused(
    content: object, message: str, tmp_path: Path
) -> None:
    torch.save(content, tmp_path / "state.bin")
    with pytest.raises(ArtifactError, match=message):
        check_readable(read_weights([tmp_path / "state.bin"]))
    assert not Path("/tmp/hanpaca-was-here").exists()


def test_old_and_truncated_files_are_told(tmp_path: Path) -> None:
    file = tmp_path / "state.bin"
    with pytest.raises(ArtifactError, match="No such file"):
        read_torch(file)
    torch.save({"a": torch.ones(9)}, file, _use_new_zipfile_serialization=False)
    with pytest.raises(ArtifactError, match=r"before 1\.6"):
        read_torch(file)
    torch.save({"a": torch.ones(9)}, file)
    file.write_bytes(file.read_bytes()[:-50])
    with pytest.raises(ArtifactError, match="truncated"):
        read_torch(file)


def with_description(file: Path, content: bytes) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("x/data.pkl", content)


def test_a_description_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "state.bin"
    for content in (
        b"\x80\x02}r" + struct.pack("<I", 2**31 - 1) + b".",
        b"\x80\x04\x8d" + struct.pack("<Q", 2**40) + b"a.",
        b"\x80\x04\x95" + struct.pack("<Q", 2**50) + b"}.",
    ):
        with_description(file, content)
        tracemalloc.start()
        with suppress(ArtifactError):
            read_torch(file)
        assert tracemalloc.get_traced_memory()[1] < 16_000_000
        tracemalloc.stop()


@settings(QUIET, max_examples=150)
@given(data=st.data())
def test_a_damaged_file_is_an_error_or_reads_within_its_bounds(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.mktemp("fuzz") / "state.bin"
    torch.save({"a": torch.ones(3, 4), "b": torch.ones(5).half()}, file)
    content = bytearray(file.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    file.write_bytes(content)
    try:
        found, _ = read_torch(file)
    except ArtifactError:
        return
    for stored in found.values():
        assert stored.extents[0].offset + stored.extents[0].num_bytes <= len(content)


@settings(QUIET, max_examples=150)
@given(content=st.binary(max_size=60))
def test_any_description_is_an_error_or_a_state(
    content: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.mktemp("fuzz") / "state.bin"
    with_description(file, content)
    with pytest.raises(ArtifactError):
        read_torch(file)
