"""Open a GGUF file: its configuration, tokenizer and weights under their Hugging Face names.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf.constants import GGMLQuantizationType as Type
from numpy.typing import NDArray

from hanpaca.checkpoints.gguf import Header, TensorEntry, read_header
from hanpaca.checkpoints.gguf_fields import field, special_tokens, token_list
from hanpaca.checkpoints.gguf_names import gguf_name, hf_name, num_rotary_heads, to_halves
from hanpaca.checkpoints.rope import FREQS, read_rope
from hanpaca.checkpoints.shapes import llama_shapes
from hanpaca.checkpoints.tensors import Stored
from hanpaca.errors import ArtifactError

_FIRST_BIASES = ("model.layers.0.self_attn.q_proj.bias", "model.layers.0.mlp.gate_proj.bias")
_NO_WEIGHTS = (Type.F64, Type.I8, Type.I16, Type.I32, Type.I64, Type.Q8_1, Type.Q8_K)
"""Types that gguf-py cannot dequantize, and llama.cpp keeps no weights in."""
_FLOATS = {Type.F32: "<f4", Type.F16: "<f2"}


@dataclass(frozen=True)
class GgufModel:
    """An open GGUF file of a Llama-style model."""

    path: Path
    config: Mapping[str, Any]
    """As `config.json` has it."""
    fields: Mapping[str, Any]
    """Of the header; the tokenizer stands there."""
    tensors: Mapping[str, TensorEntry]
    """Every weight, by Hugging Face name."""

    def weight(self, name: str) -> NDArray[np.float32]:
        """Dequantize one weight, with query and key rows in Hugging Face's order.

        Raises:
            ArtifactError: It holds NaN or infinite values.
        """
        tensor = self.tensors[name]
        dtype: np.dtype[Any] = np.dtype(_FLOATS.get(tensor.kind, "u1"))
        count = tensor.num_bytes // dtype.itemsize
        data: NDArray[Any] = np.memmap(self.path, dtype, "r", tensor.begin, (count,))
        rows = data.reshape(*tensor.shape[:-1], -1)
        with np.errstate(invalid="ignore", over="ignore"):
            values: NDArray[np.float32] = gguf.quants.dequantize(rows, tensor.kind).astype("f4")
        if not np.isfinite(values).all():
            raise ArtifactError(f"{self.path}: {name} holds NaN or infinite values: it is damaged")
        num_heads = num_rotary_heads(
            str(gguf_name(name)),
            num_heads=self.config["num_attention_heads"],
            num_kv_heads=self.config["num_key_value_heads"],
        )
        return to_halves(values, num_heads) if num_heads else values


def stored_tensors(model: GgufModel) -> dict[str, Stored]:
    """Where the rows of every weight lie; they are dequantized when they are read."""
    return {name: _stored(model, name) for name in model.tensors}


def open_gguf(path: Path) -> GgufModel:
    """Open a GGUF file and check that it is a model that can be trained further.

    Raises:
        ArtifactError: Not a GGUF file, damaged, or of another architecture.
    """
    if not path.is_file():
        raise ArtifactError(f"{path}: no such file")
    header = read_header(path)
    try:
        tensors = _tensors(header)
        config = _config(path, header, tensors)
        _check_shapes(config, tensors)
        return GgufModel(path, config, header.fields, tensors)
    except ValueError as error:
        raise ArtifactError(f"{path}: {error}") from error


def _tensors(header: Header) -> dict[str, TensorEntry]:
    architecture = header.fields.get("general.architecture")
    if architecture != "llama":
        raise ValueError(f"architecture {architecture!r:.60}; only llama can be read")
    tensors: dict[str, TensorEntry] = {}
    for ours, tensor in header.tensors.items():
        name = hf_name(ours)
        if tensor.kind in _NO_WEIGHTS:
            raise ValueError(f"tensor {ours} is of type {tensor.kind.name}, which holds no weights")
        if name is not None:
            tensors[name] = tensor
        elif ours != FREQS:
            raise ValueError(f"tensor {ours!r:.80} is of a kind not known here")
    return tensors


def _config(path: Path, header: Header, tensors: Mapping[str, TensorEntry]) -> dict[str, Any]:
    fields = header.fields

    def size(key: str, default: int | None = None) -> int:
        found = field(fields, f"llama.{key}", int, default)
        if found < 1:
            raise ValueError(f"llama.{key} is {found}, but should be at least 1")
        return found

    def rate(key: str, default: float | None = None) -> float:
        return float(np.float32(field(fields, f"llama.{key}", float, default)))

    heads = size("attention.head_count")
    config: dict[str, Any] = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": len(token_list(fields, "tokens")),
        "hidden_size": size("embedding_length"),
        "intermediate_size": size("feed_forward_length"),
        "num_hidden_layers": size("block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": size("attention.head_count_kv", heads),
        "max_position_embeddings": size("context_length"),
        "rms_norm_eps": rate("attention.layer_norm_rms_epsilon"),
        "attention_bias": _FIRST_BIASES[0] in tensors,
        "mlp_bias": _FIRST_BIASES[1] in tensors,
        "hidden_act": "silu",
        "tie_word_embeddings": "lm_head.weight" not in tensors,
        "dtype": "bfloat16",
    }
    if "llama.attention.key_length" in fields:
        config["head_dim"] = size("attention.key_length")
    head_dim = config.get("head_dim", config["hidden_size"] // heads)
    config["rope_parameters"] = read_rope(fields, _rope_factors(path, header), head_dim)
    special = special_tokens(fields)
    return config | {f"{role}_token_id": special.get(role) for role in ("bos", "eos", "pad")}


def _rope_factors(path: Path, header: Header) -> NDArray[np.float32] | None:
    """The only tensor that is no weight."""
    entry = header.tensors.get(FREQS)
    if entry is None:
        return None
    if entry.kind != Type.F32 or len(entry.shape) != 1:
        raise ValueError(f"{FREQS} is {entry.shape} in {entry.kind.name}, not a row of float32")
    return np.fromfile(path, "<f4", entry.shape[0], offset=entry.begin)


def _check_shapes(config: Mapping[str, Any], tensors: Mapping[str, TensorEntry]) -> None:
    """Every weight a model of this configuration has must be there, in its shape, and no other."""
    if config["num_hidden_layers"] > len(tensors):
        raise ValueError(f"{len(tensors)} tensors cannot make {config['num_hidden_layers']} layers")
    wanted = llama_shapes(config)
    for name in dict.fromkeys((*wanted, *tensors)):
        found = tensors[name].shape if name in tensors else None
        if found != wanted.get(name):
            raise ValueError(
                f"tensor {gguf_name(name)} is {found or 'missing'}, but the header describes a "
                f"model where it is {wanted.get(name) or 'not there'}; download it again"
            )


def _stored(model: GgufModel, name: str) -> Stored:
    entry = model.tensors[name]
    heads = num_rotary_heads(
        str(gguf_name(name)),
        num_heads=model.config["num_attention_heads"],
        num_kv_heads=model.config["num_key_value_heads"],
    )
    return replace(entry.stored(model.path), head_rows=entry.shape[0] // heads if heads else 0)
