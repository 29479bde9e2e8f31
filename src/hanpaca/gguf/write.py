"""Write a Llama-style model as one GGUF file, one tensor in memory at a time.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf.constants import GGMLQuantizationType as Type
from numpy.typing import NDArray

from hanpaca.errors import ArtifactError
from hanpaca.gguf.kernels import quantize
from hanpaca.gguf.metadata import Metadata, add_header, add_metadata, add_vocabulary
from hanpaca.gguf.names import gguf_name, num_rotary_heads, to_interleaved
from hanpaca.gguf.types import Shape, num_bytes, tensor_type
from hanpaca.gguf.vocab import Vocabulary

_LARGEST_HALF = 65_504.0
"""Of a half-precision number, which F16 and the scales of all quantized types are."""


@dataclass(frozen=True)
class SourceTensor:
    """A weight under its Hugging Face name, read when its turn comes."""

    name: str
    shape: tuple[int, ...]
    read: Callable[[], NDArray[np.float32]]


@dataclass(frozen=True)
class GgufSummary:
    """What was written."""

    num_bytes: int
    num_tensors: int
    types: Mapping[str, int]
    """How many tensors have each type."""


def write_gguf(
    output: Path,
    tensors: Sequence[SourceTensor],
    *,
    config: Mapping[str, Any],
    vocabulary: Vocabulary,
    file_type: str,
    metadata: Metadata,
    on_bytes: Callable[[int, int], None] = lambda done, total: None,
) -> GgufSummary:
    """Write one file of one type; it appears under its name only when it is whole.

    Args:
        output: The file; its folder is made if it is not there.
        tensors: Every weight; a head that is tied to the embedding is left out.
        config: As `config.json` has it.
        vocabulary: One token for every row of the embedding.
        file_type: A key of `hanpaca.gguf.types.FILE_TYPES`.
        metadata: Further keys, such as `hanpaca.base.fingerprint`.
        on_bytes: Called with the bytes of weights written so far and in all.

    Raises:
        ArtifactError: A weight is unknown to llama.cpp, or holds NaN, infinite values or values too
            large for the type.
    """
    plan = _plan(tensors, config, file_type)
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = output.with_name(output.name + ".partial")
    writer = gguf.GGUFWriter(partial, "llama")
    try:
        add_header(writer, config, file_type, output.stem)
        add_vocabulary(writer, vocabulary)
        add_metadata(writer, metadata)
        for tensor, name, kind in plan:
            _announce(writer, name, tensor.shape, kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        total, done = sum(num_bytes(tensor.shape, kind) for tensor, _, kind in plan), 0
        for tensor, name, kind in plan:
            values = _values(tensor, name, kind, config)
            writer.write_tensor_data(quantize(np.atleast_2d(values), kind))
            done += num_bytes(tensor.shape, kind)
            on_bytes(done, total)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    finally:
        writer.close()
    partial.rename(output)
    types = Counter(kind.name for _, _, kind in plan)
    return GgufSummary(output.stat().st_size, len(plan), dict(types))


def predict_bytes(
    shapes: Mapping[str, tuple[int, ...]], *, config: Mapping[str, Any], file_type: str
) -> int:
    """Size of the weights of a file before it is written; the header comes on top (1–5 MB)."""
    model = Shape.of(config)
    total = 0
    for name, shape in shapes.items():
        ours = _known_name(name)
        if model.tied and ours == "output.weight":
            continue
        total += num_bytes(shape, tensor_type(ours, shape, file_type=file_type, model=model))
    return total


def _plan(
    tensors: Sequence[SourceTensor], config: Mapping[str, Any], file_type: str
) -> list[tuple[SourceTensor, str, Type]]:
    """Every tensor to write with its GGUF name and type, in llama.cpp's order."""
    model = Shape.of(config)
    plan = []
    for tensor in sorted(tensors, key=lambda tensor: _order(tensor.name)):
        name = _known_name(tensor.name)
        if model.tied and name == "output.weight":
            continue
        kind = tensor_type(name, tensor.shape, file_type=file_type, model=model)
        plan.append((tensor, name, kind))
    return plan


def _known_name(name: str) -> str:
    ours = gguf_name(name)
    if ours is None:
        raise ArtifactError(f"tensor {name}: llama.cpp's llama architecture has no such tensor")
    return ours


def _order(name: str) -> tuple[int, int, str]:
    """Embedding, layers in order, then norm and head: as llama.cpp reads them."""
    if "embed_tokens" in name:
        return 0, 0, name
    if "layers." in name:
        return 1, int(name.split(".")[2]), name
    return 2, 0, name


def _values(
    tensor: SourceTensor, name: str, kind: Type, config: Mapping[str, Any]
) -> NDArray[np.float32]:
    values = tensor.read()
    largest = max(float(values.max()), -float(values.min()))
    if not np.isfinite(largest):
        raise ArtifactError(
            f"tensor {tensor.name} holds NaN or infinite values: the model is broken"
        )
    if kind not in (Type.F32, Type.BF16) and largest > _LARGEST_HALF:
        raise ArtifactError(
            f"tensor {tensor.name} holds {largest:g}, which {kind.name} cannot: choose bf16 or f32"
        )
    heads = config["num_attention_heads"]
    num_heads = num_rotary_heads(
        name, num_heads=heads, num_kv_heads=config.get("num_key_value_heads") or heads
    )
    return to_interleaved(values, num_heads) if num_heads else values


def _announce(writer: gguf.GGUFWriter, name: str, shape: tuple[int, ...], kind: Type) -> None:
    if kind in (Type.F32, Type.F16):
        dtype = np.dtype(np.float32 if kind == Type.F32 else np.float16)
        writer.add_tensor_info(name, shape, dtype, num_bytes(shape, kind))
    else:
        byte_shape = gguf.quant_shape_to_byte_shape(shape, kind)
        writer.add_tensor_info(
            name, byte_shape, np.dtype(np.uint8), num_bytes(shape, kind), raw_dtype=kind
        )
