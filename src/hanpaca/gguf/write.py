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
from hanpaca.gguf.names import gguf_name, num_rotary_heads, to_interleaved
from hanpaca.gguf.types import FILE_TYPES, Shape, num_bytes, tensor_type
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
    metadata: Mapping[str, str],
    on_bytes: Callable[[int, int], None] = lambda done, total: None,
) -> GgufSummary:
    """Write one file of one type; it appears under its name only when it is whole.

    Args:
        output: The file; its folder is made if it is not there.
        tensors: Every weight; a head that is tied to the embedding is left out.
        config: As `config.json` has it.
        vocabulary: One token for every row of the embedding.
        file_type: A key of `hanpaca.gguf.types.FILE_TYPES`.
        metadata: Further text keys, such as `hanpaca.base.fingerprint`.
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
        _add_header(writer, config, file_type, output.stem)
        _add_vocabulary(writer, vocabulary)
        for key, value in metadata.items():
            writer.add_string(key, value)
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


def _add_header(
    writer: gguf.GGUFWriter, config: Mapping[str, Any], file_type: str, name: str
) -> None:
    heads = config["num_attention_heads"]
    head_dim = config.get("head_dim") or config["hidden_size"] // heads
    rope = config.get("rope_parameters") or {}
    if rope.get("rope_type", "default") != "default":
        raise ArtifactError(
            f"rope scaling {rope['rope_type']!r} cannot be written to GGUF yet; use a model without"
        )
    writer.add_type("model")
    writer.add_name(name)
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(config.get("num_key_value_heads") or heads)
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    writer.add_rope_dimension_count(head_dim)
    writer.add_rope_freq_base(rope.get("rope_theta", config.get("rope_theta", 10_000.0)))
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_file_type(int(FILE_TYPES[file_type][1]))
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)


def _add_vocabulary(writer: gguf.GGUFWriter, vocabulary: Vocabulary) -> None:
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(vocabulary.pre)
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types(vocabulary.token_types)
    writer.add_token_merges(vocabulary.merges)
    adders = {
        "bos": writer.add_bos_token_id,
        "eos": writer.add_eos_token_id,
        "unk": writer.add_unk_token_id,
        "pad": writer.add_pad_token_id,
    }
    for role, token in vocabulary.special.items():
        adders[role](token)
    writer.add_add_bos_token(vocabulary.add_bos)
    writer.add_add_space_prefix(False)
    if vocabulary.chat_template:
        writer.add_chat_template(vocabulary.chat_template)
