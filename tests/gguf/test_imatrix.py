import struct
from pathlib import Path

import gguf
import numpy as np
import pytest

from hanpaca.errors import ArtifactError
from hanpaca.gguf.imatrix import ImportanceMatrix, read_imatrix, write_imatrix

NAME = "blk.0.ffn_down.weight"


def matrix() -> ImportanceMatrix:
    sums = {NAME: np.array([3, 6, 0.7, 0], np.float32), "blk.0.attn_q.weight": np.ones(2, "f4")}
    return ImportanceMatrix(sums, {NAME: 3.0, "blk.0.attn_q.weight": 0.0}, ("wiki.txt",), 2, 512)


def test_it_is_read_back_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "m.gguf"
    write_imatrix(file, matrix())
    found = read_imatrix(file)
    assert (found.datasets, found.num_blocks, found.block_tokens) == (("wiki.txt",), 2, 512)
    assert found.counts == matrix().counts
    means = found.means()
    assert means[NAME].tolist() == [1, 2, np.float32(0.7) / np.float32(3), 0]
    assert means["blk.0.attn_q.weight"].tolist() == [1, 1], "what saw nothing counts as 1"


def test_the_file_has_the_keys_and_tensors_that_llama_cpp_writes(tmp_path: Path) -> None:
    write_imatrix(tmp_path / "m.gguf", matrix())
    reader = gguf.GGUFReader(tmp_path / "m.gguf")
    kinds = {key: field.types for key, field in reader.fields.items() if "." in key[1:]}
    kinds = {key: value for key, value in kinds.items() if not key.startswith("GGUF.")}
    text, number = gguf.GGUFValueType.STRING, gguf.GGUFValueType.UINT32
    assert kinds == {
        "general.type": [text],
        "imatrix.datasets": [gguf.GGUFValueType.ARRAY, text],
        "imatrix.chunk_count": [number],
        "imatrix.chunk_size": [number],
    }
    shapes = {tensor.name: tensor.shape.tolist() for tensor in reader.tensors}
    assert shapes[f"{NAME}.in_sum2"] == [4, 1]
    assert shapes[f"{NAME}.counts"] == [1, 1]


def legacy(values: bytes, *, name: bytes = NAME.encode()) -> bytes:
    entry = struct.pack("<i", len(name)) + name + struct.pack("<ii", 5, len(values) // 4) + values
    return struct.pack("<i", 1) + entry


def test_the_older_form_is_read_too(tmp_path: Path) -> None:
    file = tmp_path / "m.dat"
    data = legacy(np.array([5, 10], "<f4").tobytes())
    for end in (b"", struct.pack("<ii", 7, 3) + b"a.t"):
        file.write_bytes(data + end)
        found = read_imatrix(file)
        assert found.means()[NAME].tolist() == [1, 2]
        assert (found.num_blocks, found.datasets) == ((7, ("a.t",)) if end else (0, ()))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"nonsense",
        b"GGUF",
        legacy(np.array([1, np.nan], "<f4").tobytes()),
        legacy(np.array([1, -1], "<f4").tobytes()),
        legacy(b"\0" * 8)[:-1],
        legacy(b"\0" * 8, name=b"x" * 1000),
        struct.pack("<i", 0),
    ],
)
def test_what_is_no_importance_matrix_is_refused(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "m.dat").write_bytes(data)
    with pytest.raises(ArtifactError, match=r"m\.dat"):
        read_imatrix(tmp_path / "m.dat")
    with pytest.raises(ArtifactError, match="cannot be read"):
        read_imatrix(tmp_path / "none")


def test_another_gguf_and_missing_counts_are_refused(tmp_path: Path) -> None:
    for kind, told in (("model", "general.type"), ("imatrix", "has no counts")):
        writer = gguf.GGUFWriter(tmp_path / "m.gguf", "llama")
        writer.add_type(kind)
        writer.add_tensor(f"{NAME}.in_sum2", np.ones((1, 2), np.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        with pytest.raises(ArtifactError, match=told):
            read_imatrix(tmp_path / "m.gguf")
