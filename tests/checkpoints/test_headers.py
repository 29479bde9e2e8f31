import json
import resource
import struct
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from hanpaca.checkpoints.headers import read_safetensors
from hanpaca.errors import ArtifactError
from hanpaca.files import parse_json, read_json

WHOLE: dict[str, Any] = {"w": {"dtype": "F16", "shape": [2, 3], "data_offsets": [0, 12]}}


def write(file: Path, tree: object, data: bytes = b"\0" * 12) -> Path:
    header = tree if isinstance(tree, bytes) else json.dumps(tree).encode()
    file.write_bytes(struct.pack("<Q", len(header)) + header + data)
    return file


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.dictionaries(
        st.text(min_size=1, max_size=8).filter(lambda name: name != "__metadata__"),
        st.tuples(
            st.sampled_from(["float32", "float16", "bfloat16", "int64", "uint8", "bool"]),
            st.lists(st.integers(0, 4), max_size=3),
        ),
        max_size=4,
    )
)
def test_headers_are_what_safetensors_wrote(
    tmp_path: Path, tensors: dict[str, tuple[str, list[int]]]
) -> None:
    made = {
        name: torch.zeros(shape, dtype=getattr(torch, kind))
        for name, (kind, shape) in tensors.items()
    }
    save_file(made, tmp_path / "m.safetensors", metadata={"a": "b"})
    found, metadata = read_safetensors(tmp_path / "m.safetensors")
    assert {name: one.shape for name, one in found.items()} == {
        name: tuple(tensor.shape) for name, tensor in made.items()
    }
    assert all(one.num_parameters == made[name].numel() for name, one in found.items())
    assert metadata == {"a": "b"}


def test_a_whole_file_is_read(tmp_path: Path) -> None:
    found, _ = read_safetensors(write(tmp_path / "m.safetensors", WHOLE))
    assert {name: (one.kind, one.shape) for name, one in found.items()} == {"w": ("F16", (2, 3))}


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"w": {**WHOLE["w"], "shape": [2, 4]}}, "does not lie where its shape says"),
        ({"w": {**WHOLE["w"], "shape": [-2, -3]}}, "impossible shape"),
        ({"w": {**WHOLE["w"], "shape": [True, 3]}}, "impossible shape"),
        ({"w": {**WHOLE["w"], "shape": [1] * 9}}, "impossible shape"),
        ({"w": {**WHOLE["w"], "shape": [1 << 60, 0]}}, "impossible shape"),
        ({"w": {**WHOLE["w"], "dtype": "X9"}}, "type not known here: X9"),
        ({"w": {**WHOLE["w"], "data_offsets": [0, 12, 3]}}, "damaged"),
        ({"w": {**WHOLE["w"], "data_offsets": [4, 16]}}, "does not begin"),
        ({"w": {**WHOLE["w"], "data_offsets": [-4, 8]}}, "does not lie"),
        ({"w": 3}, "damaged"),
        ([1], "a JSON object is expected"),
        ({"__metadata__": 3, **WHOLE}, "__metadata__"),
        (b'{"w": 1, "w": 2}', "stands in it twice"),
        (b"[" * 100_000, "damaged"),
        (b"\xff\xfe", "damaged"),
        (b'{"w": NaN', "damaged"),
    ],
)
def test_a_damaged_header_is_refused(tmp_path: Path, tree: object, message: str) -> None:
    with pytest.raises(ArtifactError, match=message) as caught:
        read_safetensors(write(tmp_path / "m.safetensors", tree))
    assert "m.safetensors" in str(caught.value)


@pytest.mark.parametrize("length", [0, 7, 8, 40, -1])
def test_a_cut_file_is_refused(tmp_path: Path, length: int) -> None:
    file = write(tmp_path / "m.safetensors", WHOLE)
    file.write_bytes(file.read_bytes()[:length])
    with pytest.raises(ArtifactError):
        read_safetensors(file)


def test_a_header_that_claims_gigabytes_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "m.safetensors"
    with file.open("wb") as stream:  # sparse: 200 MB that take no room
        stream.write(struct.pack("<Q", 150_000_000))
        stream.truncate(200_000_000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ArtifactError, match="claims 150000000 bytes"):
        read_safetensors(file)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(at=st.integers(0, 200), value=st.integers(0, 255))
def test_a_changed_byte_never_crashes(tmp_path: Path, at: int, value: int) -> None:
    file = write(tmp_path / "m.safetensors", WHOLE)
    data = bytearray(file.read_bytes())
    data[at % len(data)] = value
    file.write_bytes(data)
    with suppress(ArtifactError):
        read_safetensors(file)


def test_json_must_be_an_object_of_reasonable_size(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="cannot be read"):
        read_json(tmp_path / "none.json")
    big = tmp_path / "big.json"
    with big.open("wb") as stream:
        stream.truncate(60_000_000)
    with pytest.raises(ArtifactError, match="too much for a file of this kind"):
        read_json(big)
    with pytest.raises(ArtifactError, match="damaged JSON"):
        parse_json(b'{"n": ' + b"9" * 5000 + b"}", "n.json")
