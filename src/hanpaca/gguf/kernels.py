"""The bytes of rows in a type.

They come from the ggml kernels inside the xllamacpp wheel, which needs no compiler; where that
cannot be used, gguf-py (numpy) gives the same bytes of the simple types at half the speed.
"""

import ctypes
import functools
from importlib.util import find_spec
from pathlib import Path

import gguf
import numpy as np
import torch
from gguf.constants import GGML_QUANT_SIZES
from gguf.constants import GGMLQuantizationType as Type
from numpy.typing import NDArray

from hanpaca.errors import ResourceError
from hanpaca.gguf.types import num_bytes

Rows = NDArray[np.float32]
Bytes = NDArray[np.uint8]
_SIMPLE = (Type.F32, Type.F16, Type.BF16, Type.Q8_0, Type.Q4_0, Type.Q4_1, Type.Q5_0, Type.Q5_1)
_USED = (*_SIMPLE, Type.Q2_K, Type.Q3_K, Type.Q4_K, Type.Q5_K, Type.Q6_K, Type.IQ4_NL, Type.IQ4_XS)


def quantize(rows: Rows, kind: Type, importance: Rows | None = None) -> Bytes:
    """Rows in a type: (rows, row length) to (rows, bytes of a row).

    Other threads run meanwhile.

    Args:
        rows: Finite; their length is a multiple of the type's block.
        kind: Any type of `hanpaca.gguf.types.FILE_TYPES`.
        importance: How much an error in each column matters: (row length,).

    Raises:
        ResourceError: There are no kernels here, and the type or the importance needs them.
    """
    rows = np.require(rows, np.float32, ["C", "W"])
    if kind == Type.F32:
        return rows.view(np.uint8)
    if kind == Type.F16:
        # numpy converts one number at a time: 1.6 ns each, torch .06 ns.
        return np.asarray(torch.from_numpy(rows).half().numpy()).view(np.uint8)
    if (library := _ggml()) is not None:
        return _chunk(library, rows, kind, importance)
    if kind not in _SIMPLE or importance is not None:
        raise ResourceError(
            "the quantization kernels of xllamacpp cannot be used here; choose q8_0, q5_0 or q4_0 "
            "without an importance matrix, or install the pinned wheel: "
            "pip install xllamacpp==2026.10.11549"
        )
    packed: Bytes = gguf.quants.quantize(rows, kind)
    return packed


def _chunk(library: ctypes.CDLL, rows: Rows, kind: Type, importance: Rows | None) -> Bytes:
    num_rows, length = rows.shape
    out = np.empty((num_rows, num_bytes((length,), kind)), np.uint8)
    weights = None
    if importance is not None:
        importance = np.ascontiguousarray(importance, np.float32)
        if importance.shape != (length,):  # the kernel would read beyond its end
            raise ValueError(f"importance of shape {importance.shape} for rows of {length}")
        weights = importance.ctypes.data
    library.ggml_quantize_chunk(
        int(kind), rows.ctypes.data, out.ctypes.data, 0, num_rows, length, weights
    )
    return out


@functools.cache
def _ggml() -> ctypes.CDLL | None:
    """The kernels, if they are here and do what gguf-py does; their export is not documented."""
    spec = find_spec("xllamacpp")
    if spec is None or spec.origin is None:
        return None
    found = sorted(Path(spec.origin).parent.glob("xllamacpp*.so"))
    try:
        library = ctypes.CDLL(str(found[0]))
        library.ggml_quantize_chunk.restype = ctypes.c_size_t
        pointer, size = ctypes.c_void_p, ctypes.c_int64
        library.ggml_quantize_chunk.argtypes = [
            *(ctypes.c_int, pointer, pointer),
            *(size, size, size, pointer),
        ]
        library.ggml_blck_size.restype = ctypes.c_int64
        library.ggml_type_size.restype = ctypes.c_size_t
        works = _does_as_gguf_py(library)
    except (IndexError, OSError, AttributeError):
        return None
    return library if works else None


def _does_as_gguf_py(library: ctypes.CDLL) -> bool:
    """The layouts of all types; the bytes of the simple ones; K-types are read back closely."""
    layouts = {
        kind: (library.ggml_blck_size(int(kind)), library.ggml_type_size(int(kind)))
        for kind in _USED
    }
    if any(layouts[kind] != GGML_QUANT_SIZES[kind] for kind in _USED):
        return False
    sample = np.sin(np.arange(512, dtype=np.float32)).reshape(2, 256)
    for kind in (Type.BF16, Type.Q8_0, Type.Q4_0):
        if not np.array_equal(
            _chunk(library, sample, kind, None), gguf.quants.quantize(sample, kind)
        ):
            return False
    back = gguf.quants.dequantize(_chunk(library, sample, Type.Q6_K, None), Type.Q6_K)
    return bool(np.abs(back - sample).max() < 0.05)
