"""The header of a GGUF file against gguf-py's writer and reader, and lies of every kind."""

import struct
import tracemalloc
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from gguf.constants import GGMLQuantizationType as Type
from gguf.constants import GGUFValueType as Kind
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hanpaca.checkpoints.gguf import read_header
from hanpaca.errors import ArtifactError

Folders = pytest.TempPathFactory
QUIET = settings(deadline=None, suppress_health_check=list(HealthCheck))
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
RANGES = {
    Kind.UINT8: (0, 2**8 - 1),
    Kind.INT8: (-(2**7), 2**7 - 1),
    Kind.UINT16: (0, 2**16 - 1),
    Kind.INT16: (-(2**15), 2**15 - 1),
    Kind.UINT32: (0, 2**32 - 1),
    Kind.INT32: (-(2**31), 2**31 - 1),
    Kind.UINT64: (0, 2**64 - 1),
    Kind.INT64: (-(2**63), 2**63 - 1),
}
VALUES: dict[Kind, st.SearchStrategy[Any]] = {
    **{kind: st.integers(*limits) for kind, limits in RANGES.items()},
    Kind.FLOAT32: st.floats(width=32, allow_nan=False),
    Kind.FLOAT64: st.floats(allow_nan=False),
    Kind.BOOL: st.booleans(),
    Kind.STRING: TEXT,
}
FIELD = st.sampled_from(list(VALUES)).flatmap(
    lambda kind: st.tuples(
        st.just(kind), VALUES[kind] | st.lists(VALUES[kind], min_size=1, max_size=5)
    )
)
SHAPE = st.lists(st.integers(1, 4), min_size=1, max_size=4).map(tuple)


def write(file: Path, fields: dict[str, tuple[Kind, Any]], shapes: dict[str, Any]) -> None:
    writer = gguf.GGUFWriter(file, "llama")
    for key, (kind, value) in fields.items():
        if isinstance(value, list):
            writer.add_key_value(f"x.{key}", value, Kind.ARRAY, kind)
        else:
            writer.add_key_value(f"x.{key}", value, kind)
    for number, (name, shape) in enumerate(shapes.items()):
        dtype = np.float32 if number % 2 else np.float16
        writer.add_tensor(name, np.full(shape, number, dtype))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@settings(QUIET, max_examples=60)
@given(
    fields=st.dictionaries(TEXT, FIELD, max_size=5),
    shapes=st.dictionaries(TEXT.filter(len), SHAPE, max_size=4),
)
def test_what_gguf_py_writes_is_read_as_it_reads_it(
    fields: Any, shapes: Any, tmp_path_factory: Folders
) -> None:
    file = tmp_path_factory.mktemp("w") / "m.gguf"
    write(file, fields, shapes)
    header = read_header(file)
    assert header.fields["general.architecture"] == "llama"
    for key, (_, value) in fields.items():
        assert header.fields[f"x.{key}"] == value
    reader = gguf.GGUFReader(file)
    assert {
        name: (entry.kind, entry.shape, entry.begin, entry.num_bytes)
        for name, entry in header.tensors.items()
    } == {
        one.name: (
            one.tensor_type,
            tuple(int(size) for size in reversed(one.shape)),
            one.data_offset,
            one.n_bytes,
        )
        for one in reader.tensors
    }
    assert {name: entry.shape for name, entry in header.tensors.items()} == shapes


@pytest.fixture(scope="module")
def whole(tmp_path_factory: Folders) -> bytes:
    file = tmp_path_factory.mktemp("whole") / "m.gguf"
    fields = {"n": (Kind.UINT32, 7), "t": (Kind.STRING, ["ab", "中"]), "f": (Kind.FLOAT32, [0.5])}
    write(file, fields, {"a": (2, 3), "b": (4,)})
    return file.read_bytes()


def refuses(file: Path, content: bytes) -> bool:
    """Whether the file is refused; whatever else happens fails the test."""
    file.write_bytes(content)
    try:
        read_header(file)
    except ArtifactError:
        return True
    return False


def test_every_cut_is_refused(whole: bytes, tmp_path: Path) -> None:
    assert not refuses(tmp_path / "m.gguf", whole)
    last = read_header(tmp_path / "m.gguf").tensors["b"]
    end = last.begin + last.num_bytes  # what follows is padding
    for kept in range(end):
        assert refuses(tmp_path / "m.gguf", whole[:kept]), kept


def test_no_flipped_bit_of_the_header_does_more_than_be_refused(
    whole: bytes, tmp_path: Path
) -> None:
    tracemalloc.start()
    refused = 0
    for position in range(0, 8 * (len(whole) - 64), 5):
        damaged = bytearray(whole)
        damaged[position // 8] ^= 1 << position % 8
        refused += refuses(tmp_path / "m.gguf", bytes(damaged))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert refused > 200
    assert peak < 2_000_000


def text(value: str | bytes) -> bytes:
    value = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(value)) + value


def field(key: str, kind: int, value: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + value


def tensor(name: str, dims: list[int], kind: int, offset: int) -> bytes:
    return text(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, kind, offset)


def gguf_file(
    fields: list[bytes],
    tensors: list[bytes],
    *,
    counts: tuple[int, int] | None = None,
    version: int = 3,
) -> bytes:
    num_tensors, num_fields = counts or (len(tensors), len(fields))
    head = b"GGUF" + struct.pack("<IQQ", version, num_tensors, num_fields)
    head += b"".join((*fields, *tensors))
    return head + bytes(-len(head) % 32) + bytes(128)


def array(kind: int, count: int, values: bytes = b"") -> bytes:
    return struct.pack("<IQ", kind, count) + values


def nested(depth: int) -> bytes:
    return field("x", Kind.ARRAY, array(Kind.ARRAY, 1) * depth)


ALIGNED = field("general.alignment", Kind.UINT32, struct.pack("<I", 64))
LIES = {
    "version 1": gguf_file([], [], version=1),
    "big-endian": gguf_file([], [], version=3 << 24),
    "2^60 fields": gguf_file([], [], counts=(0, 2**60)),
    "2^60 tensors": gguf_file([], [], counts=(2**60, 0)),
    "a text of 2^63 bytes": gguf_file([struct.pack("<Q", 2**63)], []),
    "an array of 2^60 numbers": gguf_file([field("x", Kind.ARRAY, array(Kind.UINT32, 2**60))], []),
    "an array of 2^60 texts": gguf_file([field("x", Kind.ARRAY, array(Kind.STRING, 2**60))], []),
    "2^64 - 1 bytes": gguf_file([field("x", Kind.ARRAY, array(Kind.UINT8, 2**64 - 1))], []),
    "arrays in arrays": gguf_file([nested(2)], []),
    "arrays in arrays in arrays": gguf_file([nested(100_000)], []),
    "an unknown type": gguf_file([field("x", 13, bytes(8))], []),
    "an unknown element type": gguf_file([field("x", Kind.ARRAY, array(99, 1, bytes(8)))], []),
    "a field twice": gguf_file([field("x", Kind.UINT8, b"1")] * 2, []),
    "a name that is no UTF-8": gguf_file([field("x", Kind.STRING, text(b"\xff\xfe"))], []),
    "an alignment of 0": gguf_file([field("general.alignment", Kind.UINT32, bytes(4))], []),
    "an alignment of 3": gguf_file([field("general.alignment", Kind.UINT32, b"\3\0\0\0")], []),
    "an alignment of text": gguf_file([field("general.alignment", Kind.STRING, text("32"))], []),
    "2^32 - 1 dimensions": gguf_file([], [text("a") + b"\xff" * 4]),
    "no dimension": gguf_file([], [tensor("a", [], Type.F32, 0)]),
    "5 dimensions": gguf_file([], [tensor("a", [1] * 5, Type.F32, 0)]),
    "a size that overflows to 0": gguf_file([], [tensor("a", [2**32, 2**32], Type.F32, 0)]),
    "a size that overflows to 4": gguf_file([], [tensor("a", [2**62 + 1, 4], Type.F32, 0)]),
    "half a block": gguf_file([], [tensor("a", [48], Type.Q8_0, 0)]),
    "an unknown tensor type": gguf_file([], [tensor("a", [4], 4, 0)]),
    "a tensor twice": gguf_file([], [tensor("a", [8], 0, 0), tensor("a", [8], 0, 32)]),
    "overlapping tensors": gguf_file([], [tensor("a", [16], 0, 0), tensor("b", [8], 0, 32)]),
    "the same place": gguf_file([], [tensor("a", [8], 0, 0), tensor("b", [8], 0, 0)]),
    "a gap": gguf_file([], [tensor("a", [8], 0, 0), tensor("b", [8], 0, 64)]),
    "unaligned": gguf_file([], [tensor("a", [1], 0, 0), tensor("b", [8], 0, 4)]),
    "unaligned to 64": gguf_file([ALIGNED], [tensor("a", [1], 0, 0), tensor("b", [1], 0, 32)]),
    "an offset of 2^64 - 1": gguf_file([], [tensor("a", [8], 0, 2**64 - 1)]),
    "past the end": gguf_file([], [tensor("a", [1000], 0, 0)]),
    "another format": b"PK\3\4" + bytes(100),
    "nothing": b"",
}


@pytest.mark.parametrize("what", LIES)
def test_a_lie_is_refused_at_once(what: str, tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(LIES[what])
    tracemalloc.start()
    with pytest.raises(ArtifactError, match=r"m\.gguf: not a whole GGUF file") as error:
        read_header(tmp_path / "m.gguf")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10 * len(LIES[what]) + 1_000_000
    assert "\n" not in str(error.value)


def test_the_builder_of_lies_can_tell_the_truth(tmp_path: Path) -> None:
    fields = [ALIGNED, field("x", Kind.ARRAY, array(Kind.UINT16, 2, b"\1\0\2\0"))]
    content = gguf_file(fields, [tensor("a", [2, 4], Type.F32, 0), tensor("b", [1], Type.F32, 64)])
    (tmp_path / "m.gguf").write_bytes(content)
    header = read_header(tmp_path / "m.gguf")
    assert header.fields == {"general.alignment": 64, "x": [1, 2]}
    assert header.tensors["a"].shape == (4, 2)
    assert header.tensors["b"].begin - header.tensors["a"].begin == 64
