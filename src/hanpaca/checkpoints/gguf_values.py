"""The values of weights as GGUF files have them: quantized in blocks."""

import gguf
import numpy as np
import torch
from gguf.constants import GGMLQuantizationType as Type
from torch import Tensor

_FLOATS = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


def decode(kind: str, rows: Tensor) -> Tensor:
    """Dequantize rows: bytes (rows, row bytes) to float32, or the file's floats (rows, columns)."""
    if kind in _FLOATS:
        return rows.view(_FLOATS[kind])
    with np.errstate(invalid="ignore", over="ignore"):
        return torch.from_numpy(gguf.quants.dequantize(rows.numpy(), Type[kind]))
