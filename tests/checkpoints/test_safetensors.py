"""Safetensors folders against the safetensors library, and damaged files of every kind."""

import json
import struct
import tracemalloc
import weakref
from math import prod
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import LlamaForCausalLM

from hanpaca.checkpoints.dtypes import DTYPES
from hanpaca.checkpoints.model import read_tensors
from hanpaca.checkpoints.rows import OpenFiles, OpenTensor
from hanpaca.checkpoints.safetensors import (
    INDEX,
    WEIGHTS,
    PlannedTensor,
    copy_side_files,
    write_safetensors,
    write_weights,
)
from hanpaca.checkpoints.tensors import Stored
from hanpaca.errors import ArtifactError

Folders = pytest.TempPathFactory
QUIET = settings(deadline=None, suppress_health_check=list(HealthCheck))
SHAPES = st.lists(st.integers(0, 4), max_size=3).map(tuple)
NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6).filter(
    lambda name: name != "__metadata__"
)
MODELS = st.dictionaries(NAMES, st.tuples(st.sampled_from(list(DTYPES.values())), SHAPES))


def make_tensors(wanted: dict[str, tuple[torch.dtype, tuple[int, ...]]]) -> dict[str, Tensor]:
    """Random bytes as weights: NaN and negative zero must survive too."""
    chance = torch.Generator().manual_seed(0)
    return {
        name: torch.randint(
            0, 256, (prod(shape) * dtype.itemsize,), dtype=torch.uint8, generator=chance
        )
        .view(dtype)
        .reshape(shape)
        for name, (dtype, shape) in wanted.items()
    }


def planned(tensors: dict[str, Tensor]) -> list[PlannedTensor]:
    return [
        PlannedTensor(name, tensor.dtype, tuple(tensor.shape), lambda name=name: tensors[name])  # type: ignore[misc]
        for name, tensor in tensors.items()
    ]


def same_bytes(one: Tensor, other: Tensor) -> bool:
    return (
        one.dtype == other.dtype
        and one.shape == other.shape
        and torch.equal(one.reshape(-1).view(torch.uint8), other.reshape(-1).view(torch.uint8))
    )


def put(folder: Path, header: object, data: bytes = bytes(8)) -> Path:
    """A folder of one file with this header, as it is when bytes are given."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    folder.mkdir(exist_ok=True)
    (folder / WEIGHTS).write_bytes(struct.pack("<Q", len(text)) + text + data)
    return folder


def read_all(folder: Path) -> dict[str, Tensor]:
    return {name: content(stored) for name, stored in read_tensors(folder).items()}


def content(stored: Stored) -> Tensor:
    (extent,) = stored.extents
    with extent.file.open("rb") as stream:
        stream.seek(extent.offset)
        data = bytearray(stream.read(extent.num_bytes))
    if not data:
        return torch.empty(stored.shape, dtype=DTYPES[stored.dtype])
    return torch.frombuffer(data, dtype=DTYPES[stored.dtype]).view(stored.shape)


def library_reads(file: Path) -> dict[str, Tensor] | None:
    try:
        with safe_open(file, framework="pt") as handle:
            return {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118
    except SafetensorError:
        return None


def check_against_the_library(folder: Path) -> None:
    """Ours refuses what the library refuses, and reads the same where it does not refuse."""
    expected = library_reads(folder / WEIGHTS)
    try:
        found = read_all(folder)
    except ArtifactError:
        return
    assert expected is not None
    assert found.keys() == expected.keys()
    assert all(same_bytes(found[name], expected[name]) for name in expected)


@QUIET
@given(wanted=MODELS, metadata=st.dictionaries(NAMES, st.text(max_size=5), max_size=2))
def test_the_library_reads_what_is_written_here(
    wanted: Any, metadata: dict[str, str], tmp_path_factory: Folders
) -> None:
    folder = tmp_path_factory.mktemp("w")
    tensors = make_tensors(wanted)
    write_safetensors(folder / WEIGHTS, planned(tensors), metadata=metadata)
    theirs = load_file(folder / WEIGHTS)
    assert theirs.keys() == tensors.keys()
    assert all(same_bytes(theirs[name], tensors[name]) for name in tensors)
    with safe_open(folder / WEIGHTS, framework="pt") as handle:
        assert handle.metadata() == {"format": "pt", **metadata}
    write_safetensors(folder / "again", planned(tensors), metadata=metadata)
    assert (folder / "again").read_bytes() == (folder / WEIGHTS).read_bytes()
    headers = read_tensors(folder)
    assert {n: (DTYPES[i.dtype], i.shape) for n, i in headers.items()} == wanted
    assert sum(i.num_bytes for i in headers.values()) == sum(t.nbytes for t in tensors.values())


@QUIET
@given(wanted=MODELS)
def test_what_the_library_writes_is_read_here(wanted: Any, tmp_path_factory: Folders) -> None:
    folder = tmp_path_factory.mktemp("r")
    tensors = make_tensors(wanted)
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    found = read_all(folder)
    assert found.keys() == tensors.keys()
    assert all(same_bytes(found[name], tensors[name]) for name in tensors)


@QUIET
@given(wanted=MODELS.filter(len), limit=st.integers(1, 300))
def test_shards_keep_order_and_size_and_are_indexed(
    wanted: Any, limit: int, tmp_path_factory: Folders
) -> None:
    folder = tmp_path_factory.mktemp("s")
    counted: list[int] = []
    tensors = make_tensors(wanted)
    write_weights(folder, planned(tensors), max_shard_bytes=limit, on_bytes=counted.append)
    found = read_all(folder)
    assert all(same_bytes(found[name], tensors[name]) for name in tensors)
    assert [name for name in read_tensors(folder) if tensors[name].nbytes] == [
        name for name in tensors if tensors[name].nbytes
    ]
    assert counted == [tensor.nbytes for tensor in tensors.values()]
    files = sorted(folder.glob("*.safetensors"))
    for file in files:
        shard = load_file(file)
        assert len(shard) == 1 or sum(tensor.nbytes for tensor in shard.values()) <= limit
    if len(files) == 1:
        assert [file.name for file in folder.iterdir()] == [WEIGHTS]
    else:
        index = json.loads((folder / INDEX).read_text())
        assert index["metadata"]["total_size"] == sum(counted)
        assert index["weight_map"] == {
            name: stored.file.name for name, stored in read_tensors(folder).items()
        }


def test_transformers_loads_shards(pico_untied: Path, tmp_path: Path) -> None:
    write_weights(tmp_path, planned(load_file(pico_untied / WEIGHTS)), max_shard_bytes=20_000)
    copy_side_files(pico_untied, tmp_path)
    assert len(list(tmp_path.glob("model-*-of-*.safetensors"))) > 3
    ids = torch.tensor([[1, 5, 9, 12]])
    with torch.inference_mode():
        logits = [
            LlamaForCausalLM.from_pretrained(folder)(ids).logits
            for folder in (pico_untied, tmp_path)
        ]
    assert torch.equal(*logits)


def test_one_tensor_is_in_memory_at_a_time(tmp_path: Path) -> None:
    alive: list[weakref.ref[Tensor]] = []

    def make() -> Tensor:
        assert not [one for one in alive if one() is not None]
        tensor = torch.zeros(1_000)
        alive.append(weakref.ref(tensor))
        return tensor

    plan = [PlannedTensor(f"t{n}", torch.float32, (1_000,), make) for n in range(5)]
    write_weights(tmp_path, plan, max_shard_bytes=9_000)
    assert len(alive) == 5


def test_side_files_are_copied_and_weights_are_not(tmp_path: Path) -> None:
    kept = {"config.json", "tokenizer.model", "chat_template.jinja", "LICENSE.txt", "merges.txt"}
    source, target = tmp_path / "a", tmp_path / "b"
    source.mkdir()
    target.mkdir()
    for name in (*kept, INDEX, WEIGHTS, "manifest.json", "training.bin"):
        (source / name).write_text(name)
    copy_side_files(source, target)
    assert {file.name: file.read_text() for file in target.iterdir()} == {n: n for n in kept}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: Folders) -> bytes:
    """A small file whose every byte may be damaged."""
    file = tmp_path_factory.mktemp("whole") / WEIGHTS
    tensors = make_tensors(
        {"model.norm.weight": (torch.float32, (4,)), "b": (torch.bfloat16, (3, 2))}
    )
    save_file(tensors, file, metadata={"format": "pt"})
    return file.read_bytes()


@settings(QUIET, max_examples=300)
@given(data=st.data())
def test_a_damaged_file_is_refused_or_read_as_the_library_reads_it(
    data: st.DataObject, whole: bytes, tmp_path_factory: Folders
) -> None:
    folder = tmp_path_factory.mktemp("d")
    damaged = bytearray(whole)
    header_end = 8 + int.from_bytes(whole[:8], "little")
    for position in data.draw(st.lists(st.integers(0, header_end - 1), max_size=3)):
        damaged[position] = data.draw(st.integers(0, 255) | st.sampled_from(b'{}[]",:0123456789-'))
    kept = data.draw(st.integers(0, len(damaged)) | st.just(len(damaged)))
    tail = data.draw(st.binary(max_size=4))
    (folder / WEIGHTS).write_bytes(bytes(damaged[:kept]) + tail)
    check_against_the_library(folder)


@pytest.mark.parametrize("kept", [0, 1, 7, 8, 9, 60, -1])
def test_a_cut_file_is_refused(kept: int, whole: bytes, tmp_path: Path) -> None:
    (tmp_path / WEIGHTS).write_bytes(whole[:kept])
    with pytest.raises(ArtifactError, match=r"model\.safetensors: (damaged|truncated)"):
        read_tensors(tmp_path)


NUMBERS = st.integers(-2, 40) | st.sampled_from([2**31, 2**63, 2**64, 10**30, 2.0, True, None, "8"])
ENTRIES = st.fixed_dictionaries(
    {},
    optional={
        "dtype": st.sampled_from([*DTYPES, "F64", "", None, 4, ["F32"]]),
        "shape": st.lists(NUMBERS, max_size=3) | NUMBERS,
        "data_offsets": st.lists(NUMBERS, max_size=3) | NUMBERS,
        "more": st.none(),
    },
)
HEADERS = st.dictionaries(
    st.sampled_from(["a", "b", "c", "__metadata__"]), ENTRIES | st.none() | NUMBERS, max_size=3
)


@settings(QUIET, max_examples=300)
@given(header=HEADERS | st.lists(ENTRIES, max_size=1) | NUMBERS, num_bytes=st.integers(0, 24))
def test_a_lying_header_is_refused(
    header: object, num_bytes: int, tmp_path_factory: Folders
) -> None:
    check_against_the_library(put(tmp_path_factory.mktemp("l"), header, bytes(num_bytes)))


GOOD = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    "header",
    [
        b"[" * 200_000,
        b'{"a":' * 100_000,
        b"\xff\xfe{\x00}\x00",
        "{}".encode("utf-16"),
        b"\xef\xbb\xbf{}",
        b"null",
        b'{"a": 1' + b"0" * 5_000 + b"}",
        {"a": {**GOOD, "data_offsets": [0, 8, 9]}},
        {"a": {**GOOD, "data_offsets": 8}},
        {"a": {**GOOD, "data_offsets": [0, "8"]}},
        {"a": {**GOOD, "shape": [-1, -2]}},
        {"a": {**GOOD, "shape": [2.0]}},
        {"a": {**GOOD, "shape": [2, True]}},
        {"a": {**GOOD, "shape": "2"}},
        {"a": {**GOOD, "shape": [2**62, 2**62]}},
        {"a": {**GOOD, "dtype": "F64", "shape": [1]}},
        {"a": GOOD, "b": GOOD},
        {"a": GOOD, "b": {**GOOD, "data_offsets": [4, 12]}},
        {"a": {**GOOD, "data_offsets": [4, 12]}},
        {"a": {**GOOD, "data_offsets": [8, 0]}},
        {"__metadata__": 5, "a": GOOD},
        {"__metadata__": {"format": 1}, "a": GOOD},
    ],
)
def test_an_adversarial_header_is_refused(header: object, tmp_path: Path) -> None:
    folder = put(tmp_path / "m", header)
    with pytest.raises(ArtifactError, match=r"model\.safetensors: ") as error:
        read_tensors(folder)
    assert len(str(error.value)) < 500 + len(str(folder))


def test_a_name_that_comes_twice_is_refused(tmp_path: Path) -> None:
    """The format forbids it, and readers disagree on which of the two counts."""
    entry = json.dumps(GOOD)
    folder = put(tmp_path / "m", f'{{"a": {entry}, "a": {entry}}}'.encode())
    with pytest.raises(ArtifactError, match="twice"):
        read_tensors(folder)


@pytest.mark.parametrize("length", [2**64 - 1, 2**63, 2**40, 100_000_001, 9])
def test_a_claimed_size_is_not_believed(length: int, tmp_path: Path) -> None:
    (tmp_path / WEIGHTS).write_bytes(struct.pack("<Q", length) + b"{}")
    tracemalloc.start()
    with pytest.raises(ArtifactError, match="header claims"):
        read_tensors(tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    folder = tmp_path / "sharded"
    folder.mkdir()
    tensors = make_tensors(dict.fromkeys(("a", "b", "c"), (torch.float32, (4,))))
    write_weights(folder, planned(tensors), max_shard_bytes=16)
    return folder


def with_index(folder: Path, tree: object) -> Path:
    (folder / INDEX).write_text(json.dumps(tree))
    return folder


@pytest.mark.parametrize(
    "name", ["../elsewhere.safetensors", "/etc/passwd", "sub/x.safetensors", "..", "a\0b"]
)
def test_an_index_cannot_point_outside(name: str, sharded: Path) -> None:
    (sharded.parent / "elsewhere.safetensors").write_bytes(
        (sharded / "model-00001-of-00003.safetensors").read_bytes()
    )
    with pytest.raises(ArtifactError, match=r"points outside|missing"):
        read_tensors(with_index(sharded, {"weight_map": {"a": name}}))


@pytest.mark.parametrize(
    "tree", [[], None, 5, {}, {"weight_map": []}, {"weight_map": {"a": 1}}, {"weight_map": None}]
)
def test_an_index_that_is_none_is_refused(tree: object, sharded: Path) -> None:
    with pytest.raises(ArtifactError, match=r"index\.json: (damaged index|a JSON object)"):
        read_tensors(with_index(sharded, tree))


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 200_000])
def test_an_index_that_is_no_json_is_refused(content: bytes, sharded: Path) -> None:
    (sharded / INDEX).write_bytes(content)
    with pytest.raises(ArtifactError, match=r"index\.json: damaged JSON"):
        read_tensors(sharded)


def test_a_missing_shard_is_named(sharded: Path) -> None:
    (sharded / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(ArtifactError, match=r"model-00002-of-00003\.safetensors: missing"):
        read_tensors(sharded)
    (sharded / INDEX).unlink()
    with pytest.raises(ArtifactError, match=r"no weights here: none of model\.safetensors"):
        read_tensors(sharded)


def test_shards_must_hold_what_the_index_says(sharded: Path) -> None:
    index = json.loads((sharded / INDEX).read_text())
    places = index["weight_map"]
    with pytest.raises(ArtifactError, match="tensor d is not in model-00003"):
        read_tensors(with_index(sharded, {"weight_map": {**places, "d": places["c"]}}))
    fewer = {name: place for name, place in places.items() if name != "b"}
    assert len(set(fewer.values())) == 2
    save_file({"a": torch.zeros(4), "b": torch.zeros(4)}, sharded / places["a"])
    with pytest.raises(ArtifactError, match="tensor b should not be in model-00001"):
        read_tensors(with_index(sharded, {"weight_map": fewer}))
    with pytest.raises(ArtifactError, match="tensor b is also in model-00001"):
        read_tensors(with_index(sharded, index))


def test_a_file_gone_after_its_header_was_read_is_named(sharded: Path) -> None:
    stored = read_tensors(sharded)["c"]
    (sharded / "model-00003-of-00003.safetensors").unlink()
    with OpenFiles() as files, pytest.raises(ArtifactError, match=r"00003\.safetensors"):
        OpenTensor("c", stored, files).read(0, 4)
