import struct
from contextlib import suppress
from pathlib import Path

import gguf
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hanpaca.errors import ArtifactError
from hanpaca.gguf.header import ListLength, read_gguf_header


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small file by the gguf library."""
    file = tmp_path_factory.mktemp("gguf") / "m.gguf"
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_context_length(64)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_token_list(["a", "b", "é"])
    writer.add_token_types([1, 1, 1])
    writer.add_add_bos_token(True)
    writer.add_tensor("token_embd.weight", np.zeros((3, 32), np.float16))
    quantized = gguf.quants.quantize(np.zeros((4, 64), np.float32), gguf.GGMLQuantizationType.Q8_0)
    writer.add_tensor("output.weight", quantized, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def test_the_header_is_what_the_library_wrote(written: Path) -> None:
    header = read_gguf_header(written)
    assert header.fields["general.architecture"] == "llama"
    assert header.fields["llama.context_length"] == 64
    assert header.fields["tokenizer.ggml.tokens"] == ListLength(3)
    assert header.fields["tokenizer.ggml.add_bos_token"] is True
    assert header.tensors == {
        "token_embd.weight": ("F16", (3, 32)),
        "output.weight": ("Q8_0", (4, 64)),
    }


@pytest.mark.slow
def test_a_real_file_has_what_the_library_reads_in_it(smollm2_gguf: Path) -> None:
    header = read_gguf_header(smollm2_gguf)
    reader = gguf.GGUFReader(smollm2_gguf)
    assert header.tensors == {
        tensor.name: (tensor.tensor_type.name, tuple(int(n) for n in reversed(tensor.shape)))
        for tensor in reader.tensors
    }
    assert header.fields["tokenizer.ggml.tokens"] == ListLength(49_152)


HEAD = b"GGUF" + struct.pack("<I", 3)


def text(string: bytes) -> bytes:
    return struct.pack("<Q", len(string)) + string


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "truncated"),
        (b"ggml" + b"\0" * 40, "not a GGUF file"),
        (b"GGUF" + struct.pack("<IQQ", 1, 0, 0), "version 1"),
        (HEAD + struct.pack("<QQ", 1 << 60, 0), "damaged GGUF header"),
        (HEAD + struct.pack("<QQ", 0, 1 << 60), "damaged GGUF header"),
        (HEAD + struct.pack("<QQQ", 0, 1, 1 << 62), "damaged GGUF header"),
        (HEAD + struct.pack("<QQ", 0, 1) + text(b"a") + struct.pack("<I", 99), "kind 99"),
        (HEAD + struct.pack("<QQ", 0, 1) + text(b"a") + struct.pack("<IIQ", 9, 4, 1 << 62), "list"),
        (HEAD + struct.pack("<QQ", 0, 1) + text(b"a") + struct.pack("<IIQ", 9, 8, 1 << 40), "list"),
        (HEAD + struct.pack("<QQ", 0, 1) + text(b"a") + struct.pack("<IIQ", 9, 9, 1), "kind 9"),
        (HEAD + struct.pack("<QQ", 1, 0) + text(b"w") + struct.pack("<I", 9), "9 dimensions"),
        (HEAD + struct.pack("<QQ", 1, 0) + text(b"w") + struct.pack("<IQIQ", 1, 4, 999, 0), "999"),
        (
            HEAD + struct.pack("<QQ", 1, 0) + text(b"w") + struct.pack("<IQIQ", 1, 1 << 50, 0, 0),
            "truncated: tensor w",
        ),
    ],
)
def test_what_cannot_be_is_refused(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "m.gguf").write_bytes(data)
    with pytest.raises(ArtifactError, match=message):
        read_gguf_header(tmp_path / "m.gguf")


def test_a_cut_file_is_refused(written: Path, tmp_path: Path) -> None:
    file = tmp_path / "m.gguf"
    file.write_bytes(written.read_bytes()[:-64])
    with pytest.raises(ArtifactError, match="truncated"):
        read_gguf_header(file)


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(at=st.integers(0, 700), value=st.integers(0, 255))
def test_a_changed_byte_never_crashes(written: Path, tmp_path: Path, at: int, value: int) -> None:
    data = bytearray(written.read_bytes())
    data[at % len(data)] = value
    (tmp_path / "m.gguf").write_bytes(data)
    with suppress(ArtifactError):
        read_gguf_header(tmp_path / "m.gguf")
