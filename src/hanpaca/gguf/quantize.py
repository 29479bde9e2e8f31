"""Which type each tensor of a GGUF file gets, and the bytes of that type.

The rules are those of llama.cpp's quantizer (llama-quant.cpp, `llama_tensor_get_type`), for models
of fewer than 70 B weights and without an importance matrix. Simple types come from gguf-py; the
K-types from the ggml kernels inside the xllamacpp wheel, so no compiler is needed.
"""

import ctypes
import functools
import re
from pathlib import Path
from typing import cast

import gguf
import numpy as np
from gguf.constants import GGML_QUANT_SIZES
from gguf.constants import GGMLQuantizationType as Type
from gguf.constants import LlamaFileType as FileType
from numpy.typing import NDArray

from hanpaca.errors import ResourceError

FILE_TYPES: dict[str, tuple[Type, FileType]] = {
    "f32": (Type.F32, FileType.ALL_F32),
    "f16": (Type.F16, FileType.MOSTLY_F16),
    "bf16": (Type.BF16, FileType.MOSTLY_BF16),
    "q8_0": (Type.Q8_0, FileType.MOSTLY_Q8_0),
    "q4_0": (Type.Q4_0, FileType.MOSTLY_Q4_0),
    "q4_1": (Type.Q4_1, FileType.MOSTLY_Q4_1),
    "q5_0": (Type.Q5_0, FileType.MOSTLY_Q5_0),
    "q5_1": (Type.Q5_1, FileType.MOSTLY_Q5_1),
    "q4_k_m": (Type.Q4_K, FileType.MOSTLY_Q4_K_M),
    "q5_k_m": (Type.Q5_K, FileType.MOSTLY_Q5_K_M),
    "q6_k": (Type.Q6_K, FileType.MOSTLY_Q6_K),
}
_UNQUANTIZED = (Type.F32, Type.F16, Type.BF16)
_FALLBACK = {Type.Q4_K: Type.Q5_0, Type.Q5_K: Type.Q5_1, Type.Q6_K: Type.Q8_0}
"""For rows that are no multiple of 256, the block of the K-types."""
_K_TYPES = (Type.Q4_K, Type.Q5_K, Type.Q6_K)


def tensor_type(
    name: str, shape: tuple[int, ...], *, file_type: str, num_layers: int, tied: bool
) -> Type:
    """Choose the type of one tensor as llama.cpp does.

    Args:
        name: GGUF name.
        shape: (rows, row length), or (length,) for a norm, which stays in float32.
        file_type: A key of `FILE_TYPES`.
        num_layers: Of the model: some layers get finer types.
        tied: The embedding is also the head, and gets the head's type.
    """
    kind = FILE_TYPES[file_type][0]
    if len(shape) == 1:
        return Type.F32
    if kind in _UNQUANTIZED:
        return kind
    is_head = name == "output.weight" or (tied and name == "token_embd.weight")
    if is_head:
        kind = kind if kind == Type.Q8_0 else Type.Q6_K
    elif file_type in ("q4_k_m", "q5_k_m") and re.search(r"\.(attn_v|ffn_down)\.", name):
        layer = int(name.split(".")[1])
        kind = Type.Q6_K if _gets_more_bits(layer, num_layers) else kind
    if shape[-1] % GGML_QUANT_SIZES[kind][0]:
        kind = _FALLBACK.get(kind, Type.F16)
    return kind if shape[-1] % GGML_QUANT_SIZES[kind][0] == 0 else Type.F16


def num_bytes(shape: tuple[int, ...], kind: Type) -> int:
    """Size of a tensor's data in a type."""
    block, block_bytes = GGML_QUANT_SIZES[kind]
    return int(np.prod(shape)) // block * block_bytes


def quantize(rows: NDArray[np.float32], kind: Type) -> NDArray[np.generic]:
    """Bytes of `rows` in a type: (rows, row length) to an array gguf-py writes as it is.

    Raises:
        ResourceError: A K-type without the kernels it needs.
    """
    if kind == Type.F32:
        return rows
    if kind == Type.F16:
        return rows.astype(np.float16)
    if kind not in _K_TYPES:
        return cast(NDArray[np.generic], gguf.quants.quantize(rows, kind))
    library = _ggml()
    rows = np.ascontiguousarray(rows, np.float32)
    out = np.empty((rows.shape[0], num_bytes((rows.shape[1],), kind)), np.uint8)
    library.ggml_quantize_chunk(
        int(kind),
        rows.ctypes.data_as(ctypes.c_void_p),
        out.ctypes.data_as(ctypes.c_void_p),
        ctypes.c_int64(0),
        ctypes.c_int64(rows.shape[0]),
        ctypes.c_int64(rows.shape[1]),
        None,
    )
    return out


def _gets_more_bits(layer: int, num_layers: int) -> bool:
    """The first and last eighth of the layers and every third between (`use_more_bits`)."""
    eighth = num_layers // 8
    return layer < eighth or layer >= 7 * num_layers // 8 or (layer - eighth) % 3 == 2


@functools.cache
def _ggml() -> ctypes.CDLL:
    """The ggml kernels of the xllamacpp wheel, tried on Q8_0, which gguf-py can check."""
    import xllamacpp

    unusable = ResourceError(
        "the quantization kernels of xllamacpp cannot be used here; choose q8_0, q5_0 or q4_0, "
        "or install the pinned wheel: pip install xllamacpp==2026.10.11549"
    )
    found = sorted(Path(xllamacpp.__file__).parent.glob("xllamacpp*.so"))
    if not found:
        raise unusable
    try:
        library = ctypes.CDLL(str(found[0]))
    except OSError as error:
        raise unusable from error
    if not hasattr(library, "ggml_quantize_chunk"):
        raise unusable
    library.ggml_quantize_chunk.restype = ctypes.c_size_t
    sample = np.linspace(-1, 1, 512, dtype=np.float32).reshape(2, 256)
    ours = np.empty((2, num_bytes((256,), Type.Q8_0)), np.uint8)
    library.ggml_quantize_chunk(
        int(Type.Q8_0),
        sample.ctypes.data_as(ctypes.c_void_p),
        ours.ctypes.data_as(ctypes.c_void_p),
        ctypes.c_int64(0),
        ctypes.c_int64(2),
        ctypes.c_int64(256),
        None,
    )
    if not np.array_equal(ours, gguf.quants.quantize(sample, Type.Q8_0)):
        raise unusable
    return library
