"""Write low-rank updates as a GGUF adapter, which llama.cpp applies beside an unchanged model.

Source: llama.cpp's convert_lora_to_gguf.py and src/llama-adapter.cpp, which multiplies each update
by alpha over the rank of its factors: there is one alpha for all.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import gguf
import numpy as np
from gguf.constants import LlamaFileType as FileType
from numpy.typing import NDArray

from hanpaca.checkpoints.gguf_names import gguf_name, num_rotary_heads, to_interleaved
from hanpaca.errors import ArtifactError

_DTYPES = {"f16": np.float16, "f32": np.float32}


@dataclass(frozen=True)
class LowRankUpdate:
    """`scaling * b @ a` is added to a matrix."""

    name: str
    """Of the matrix, in Hugging Face's files."""
    a: NDArray[np.float32]
    """(rank, columns)"""
    b: NDArray[np.float32]
    """(rows, rank)"""
    scaling: float

    @property
    def alpha(self) -> float:
        """With which llama.cpp has this scaling."""
        return self.scaling * len(self.a)


def write_adapter(
    path: Path,
    updates: Sequence[LowRankUpdate],
    *,
    config: Mapping[str, Any],
    dtype: Literal["f16", "f32"],
    metadata: Mapping[str, str],
) -> None:
    """Write an adapter; where the scalings differ, most keep their factors as they are.

    Args:
        path: The file.
        updates: In the order they are written.
        config: Of the base, as `config.json` has it.
        dtype: Of the factors.
        metadata: Further keys.

    Raises:
        ArtifactError: llama.cpp has no such matrix, or a factor is too large for `dtype`.
    """
    alpha = _common_alpha(updates)
    with closing(gguf.GGUFWriter(path, "llama")) as writer:
        writer.add_type("adapter")
        writer.add_string("adapter.type", "lora")
        writer.add_float32("adapter.lora.alpha", alpha)
        half = dtype == "f16"
        writer.add_file_type(int(FileType.MOSTLY_F16 if half else FileType.ALL_F32))
        for key, value in metadata.items():
            writer.add_string(key, value)
        for update in updates:
            name = gguf_name(update.name)
            if name is None:
                raise ArtifactError(f"{update.name}: llama.cpp applies no update to this matrix")
            b = _reordered(update.b, name, config)
            if update.alpha != alpha:
                b = b * np.float32(update.alpha / alpha)
            writer.add_tensor(f"{name}.lora_a", _cast(update.a, dtype, update.name))
            writer.add_tensor(f"{name}.lora_b", _cast(b, dtype, update.name))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()


def _common_alpha(updates: Sequence[LowRankUpdate]) -> float:
    """Choose what most updates have; never 0, which llama.cpp takes for "do not scale"."""
    alphas = Counter(update.alpha for update in updates if update.alpha)
    return alphas.most_common(1)[0][0] if alphas else 1.0


def _reordered(
    rows: NDArray[np.float32], name: str, config: Mapping[str, Any]
) -> NDArray[np.float32]:
    """Rows in llama.cpp's order."""
    heads = config["num_attention_heads"]
    num_heads = num_rotary_heads(
        name, num_heads=heads, num_kv_heads=config.get("num_key_value_heads") or heads
    )
    return to_interleaved(rows, num_heads) if num_heads else rows


def _cast(values: NDArray[np.float32], dtype: str, name: str) -> NDArray[np.generic]:
    with np.errstate(over="ignore"):
        result = np.ascontiguousarray(values.astype(_DTYPES[dtype]))
    if not np.isfinite(result).all():
        raise ArtifactError(f"{name}: its factors are too large for {dtype}: choose f32")
    return result
