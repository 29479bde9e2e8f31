"""Two implementations of every type against each other: ggml's kernels in C, gguf-py's in numpy."""

import ctypes
from collections.abc import Callable, Iterator
from pathlib import Path

import gguf
import numpy as np
import pytest
from gguf.constants import GGMLQuantizationType as Type
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from hanpaca.checkpoints.gguf import read_header
from hanpaca.errors import ArtifactError, ResourceError
from hanpaca.gguf import kernels as module
from hanpaca.gguf.kernels import quantize
from hanpaca.gguf.stream import SourceTensor
from hanpaca.gguf.types import FILE_TYPES, num_bytes
from hanpaca.gguf.write import write_files
from hanpaca.steps.write_gguf import read_config
from hanpaca.tokenizer.conversion.gguf import read_vocabulary

Rows = NDArray[np.float32]
SIMPLE = (Type.Q8_0, Type.Q4_0, Type.Q4_1, Type.Q5_0, Type.Q5_1)
K_TYPES = (Type.Q4_K, Type.Q5_K, Type.Q6_K)
BITS = {Type.Q4_K: 4, Type.Q5_K: 5, Type.Q6_K: 6}


def random_rows(seed: int, scale: float, num_rows: int = 8, length: int = 256) -> Rows:
    chance = np.random.default_rng(seed)
    return (scale * chance.standard_normal((num_rows, length))).astype(np.float32)


def ggml_dequantize(data: NDArray[np.uint8], kind: Type, num_values: int) -> Rows:
    out = np.empty(num_values, np.float32)
    kernel = getattr(module._ggml(), f"dequantize_row_{kind.name.replace('Q', 'q')}")
    pointers = (array.ctypes.data_as(ctypes.c_void_p) for array in (data, out))
    kernel(*pointers, ctypes.c_int64(num_values))
    return out


def dequantized(data: NDArray[np.generic], kind: Type) -> Rows:
    values: Rows = gguf.quants.dequantize(data, kind)
    return values


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 2**32 - 1),
    scale=st.floats(1e-4, 1e3),
    kind=st.sampled_from(SIMPLE),
    outlier=st.sampled_from([0.0, -50.0, 50.0]),
)
def test_simple_types_are_ggmls_byte_for_byte(
    seed: int, scale: float, kind: Type, outlier: float
) -> None:
    rows = random_rows(seed, scale)
    rows[0, 7] += outlier * scale
    assert np.array_equal(quantize(rows, kind), gguf.quants.quantize(rows, kind))


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**32 - 1), scale=st.floats(1e-2, 1e3), kind=st.sampled_from(K_TYPES))
def test_k_types_are_read_alike_and_err_by_little(seed: int, scale: float, kind: Type) -> None:
    rows = random_rows(seed, scale)
    data = quantize(rows, kind)
    assert data.shape == (8, num_bytes((256,), kind))
    found = dequantized(data, kind)
    theirs = ggml_dequantize(np.ascontiguousarray(data).view(np.uint8), kind, rows.size)
    np.testing.assert_allclose(found.ravel(), theirs, rtol=1e-6, atol=1e-6 * scale)
    # A group of 32 (Q6_K: 16) values shares a scale, so an error is about half a step of the
    # group's range; the scale itself has 6 (8) bits, which costs up to as much again.
    group = 16 if kind == Type.Q6_K else 32
    groups = rows.reshape(-1, group)
    spread = np.abs(groups).max(axis=1) - np.minimum(groups.min(axis=1), 0)
    step = spread / (2 ** BITS[kind] - 1)
    assert (np.abs(found - rows).reshape(-1, group).max(axis=1) <= 1.5 * step).all()


def test_finer_types_err_less() -> None:
    rows = random_rows(0, 1.0, num_rows=64)
    errors = [
        float(np.square(dequantized(quantize(rows, kind), kind) - rows).mean())
        for kind in (*K_TYPES, Type.Q8_0)
    ]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < errors[0] / 50


@pytest.mark.parametrize("kind", [*SIMPLE, *K_TYPES, Type.BF16])
def test_zeros_stay_zeros(kind: Type) -> None:
    rows = np.zeros((3, 256), np.float32)
    assert not dequantized(quantize(rows, kind), kind).any()


@pytest.mark.parametrize("file_type", FILE_TYPES)
def test_sizes_are_those_of_the_bytes(file_type: str) -> None:
    kind = FILE_TYPES[file_type][0]
    rows = random_rows(1, 1.0, length=512)
    assert quantize(rows, kind).nbytes == num_bytes(rows.shape, kind)


@pytest.fixture
def write_with(pico_untied: Path, tmp_path: Path) -> Callable[[float, str], Path]:
    """Write the pico model with one element of one weight set."""

    def write(value: float, file_type: str) -> Path:
        config = read_config(pico_untied)
        rows = random_rows(0, 1.0, num_rows=64, length=32)
        rows[5, 5] = value
        source = SourceTensor(
            "model.layers.0.mlp.up_proj.weight", rows.shape, lambda start, stop: rows[start:stop]
        )
        write_files(
            {file_type: tmp_path / "m.gguf"},
            [source],
            config=config,
            vocabulary=read_vocabulary(pico_untied, 394),
            metadata={},
        )
        return tmp_path / "m.gguf"

    return write


@pytest.mark.parametrize("file_type", ["f16", "q8_0", "q4_0", "q5_1", "q4_k_m", "q6_k"])
@pytest.mark.parametrize("value", [7e4, -1e9, 3e38])
def test_a_weight_too_large_for_the_type_is_refused(
    file_type: str, value: float, write_with: Callable[[float, str], Path], tmp_path: Path
) -> None:
    """A half-precision number ends at 65,504; what is above became infinite or NaN."""
    with pytest.raises(ArtifactError, match=r"up_proj\.weight .*bf16"):
        write_with(value, file_type)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("file_type", FILE_TYPES)
def test_a_large_weight_that_fits_is_kept(
    file_type: str, write_with: Callable[[float, str], Path]
) -> None:
    value = 1e30 if file_type in ("f32", "bf16") else 65_504.0
    entry = read_header(file := write_with(value, file_type)).tensors["blk.0.ffn_up.weight"]
    data = np.frombuffer(file.read_bytes()[entry.begin : entry.begin + entry.num_bytes], np.uint8)
    types = {Type.F32: np.float32, Type.F16: np.float16}
    rows = data.view(types.get(entry.kind, np.uint8)).reshape(64, -1)
    found = dequantized(rows, entry.kind)
    assert np.isfinite(found).all()
    assert found[5, 5] == pytest.approx(value, rel=0.05)


@pytest.fixture
def fresh_kernels() -> Iterator[None]:
    """Let the library be looked for again."""
    module._ggml.cache_clear()
    yield
    module._ggml.cache_clear()


def broken(path: str) -> object:
    raise OSError(f"{path}: invalid ELF header")


@pytest.mark.usefixtures("fresh_kernels")
@pytest.mark.parametrize("library", [lambda path: object(), broken])
def test_kernels_that_cannot_be_used_are_said(
    library: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ctypes, "CDLL", library)
    rows = random_rows(0, 1.0)
    with pytest.raises(ResourceError, match=r"choose q8_0.*pip install xllamacpp=="):
        quantize(rows, Type.Q4_K)
    with pytest.raises(ResourceError, match="without an importance matrix"):
        quantize(rows, Type.Q8_0, np.ones(256, np.float32))
    assert np.array_equal(quantize(rows, Type.Q8_0), gguf.quants.quantize(rows, Type.Q8_0))


@pytest.mark.usefixtures("fresh_kernels")
def test_kernels_that_give_other_bytes_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_chunk", lambda library, rows, kind, importance: rows * 0)
    assert module._ggml() is None


def test_importance_changes_bytes_and_must_fit() -> None:
    rows = random_rows(0, 1.0)
    importance = np.linspace(0, 1, 256, dtype=np.float32)
    for kind in (*K_TYPES, Type.Q4_0, Type.IQ4_XS):
        assert not np.array_equal(quantize(rows, kind, importance), quantize(rows, kind))
    with pytest.raises(ValueError, match="rows of 256"):
        quantize(rows, Type.Q4_K, importance[:255])


def test_rows_that_cannot_be_written_to_are_read() -> None:
    rows = random_rows(0, 1.0)
    rows.flags.writeable = False
    expected = rows.astype(np.float16).view(np.uint8)
    assert np.array_equal(quantize(rows, Type.F16), expected)
